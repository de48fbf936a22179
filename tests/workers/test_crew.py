"""Scheduling of work among workers that join late, are slow, differ or hang. Here they are threads that sleep."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from torch import Tensor

from benchmarks.spread import ThreadLink, ThreadLinks, limit
from benchmarks.waiting import Device, SleepingFamily
from pixelsmith import Compute, ControlNet, DeviceError, MissingPartError, Parts, Placement, RequestError, Size, Workers
from pixelsmith.cli.progress import shares
from pixelsmith.engine import Work
from pixelsmith.engine.crew import QUESTION, Crew, Leases, Link, unshared
from pixelsmith.engine.executor import unsaid
from pixelsmith.engine.many import LATE_SECONDS, Many, ask
from pixelsmith.events import silent
from pixelsmith.families import Family, load_family
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.planning.forecast import Rates
from pixelsmith.run.found import FoundModel
from pixelsmith.run.team import Team, together
from pixelsmith.workers.cluster import check_ray
from pixelsmith.workers.fleet import Fleet, check_workers, difference_of, memories_of
from pixelsmith.workers.model_transfer import ModelFiles
from pixelsmith.workers.processes import environment
from pixelsmith.workers.remote import RemoteAutoencoder, RemoteFamily
from pixelsmith.workers.worker import About, ModelSpec, Worker


@dataclass
class Sleeper(Worker):
    """A worker whose calls take ``seconds``, the first one ``first``, or end when it is woken; they return these
    seconds. ``begun``: when it was called; ``ended``: the number of finished calls.
    """

    seconds: float = 0.0
    first: float | None = None
    lost: str = ""
    begun: list[float] = field(default_factory=list)
    ended: int = 0
    woken: threading.Event = field(default_factory=threading.Event)

    def compute(self, number: int, parts: Sequence[bytes], counts: Sequence[int]) -> tuple[Any, ...]:
        self.begun.append(time.monotonic())
        if self.lost:
            return "broken", self.lost
        wait = self.first if self.first is not None and len(self.begun) == 1 else self.seconds
        self.woken.wait(wait)
        what, seconds, data = super().compute(number, parts, counts)
        self.ended += 1
        return what, seconds + wait, data


def doubled(items: Tensor) -> Tensor:
    return 2 * items


def run(
    crew: Crew,
    groups: int,
    on_done: Callable[[Sequence[int]], None] = lambda group: None,
    kind: str = "one item",
) -> dict[int, float]:
    kept: dict[int, float] = {}
    work: Work[Tensor] = Work(
        kind=kind,
        groups=[range(i, i + 1) for i in range(groups)],
        read=lambda group: torch.tensor([float(group[0])]),
        compute=doubled,
        write=lambda group, values: kept.__setitem__(group[0], float(values[0])),
        place=lambda group: f"item {group[0]}",
    )
    with Many(crew) as many:
        many.run(work, on_done)
    assert kept == {i: 2.0 * i for i in range(groups)}
    return kept


def crew_of(*sleepers: Sleeper | Worker) -> Crew:
    return Crew(ThreadLinks([ThreadLink(f"worker {i}", sleeper) for i, sleeper in enumerate(sleepers)]))


@dataclass
class Simulated:
    """A link to a worker whose jobs take ``seconds`` of simulated time each; ``due``: when each unanswered one ends."""

    name: str
    seconds: float
    clock: Callable[[], float]
    worker: Worker = field(default_factory=Worker)
    due: deque[tuple[float, Future[Any], Any]] = field(default_factory=deque)
    jobs: int = 0
    _free: float = 0.0

    def call(self, method: str, *given: Any) -> Future[Any]:
        answer: Any = getattr(self.worker, method)(*unshared(given))
        future: Future[Any] = Future()
        if method != "compute":
            future.set_result(answer)
            return future
        what, _, data = answer
        self._free = max(self._free, self.clock()) + self.seconds
        self.jobs += 1
        self.due.append((self._free, future, (what, self.seconds, data)))
        return future

    def kill(self) -> None:
        self.due.clear()


class SimulatedCrew(Crew):
    """A crew whose clock is advanced to the next answer, or by the patience if that is earlier, once all of its jobs
    are being computed and nothing is being written.
    """

    def __init__(self, *seconds: float, leases: Leases | None = None) -> None:
        self.time = 0.0
        self.links = [Simulated(f"worker {i}", each, lambda: self.time) for i, each in enumerate(seconds)]
        self.unanswered: set[Future[Any]] = set()
        super().__init__(ThreadLinks(self.links), leases, clock=lambda: self.time)

    def answered(self, future: Future[Any], on_answer: Callable[[Future[Any]], None]) -> None:
        def answer(done: Future[Any]) -> None:
            self.unanswered.discard(future)
            on_answer(done)

        self.unanswered.add(future)
        super().answered(future, answer)

    def turn(self, patience: float) -> None:
        busy = [link for link in self.links if link.due]
        due = {future for link in busy for _, future, _ in link.due}
        answers = busy and self.unanswered == due and len(due) == sum(len(member.jobs) for member in self.members)
        if answers:
            first = min(busy, key=lambda link: link.due[0][0])
            if first.due[0][0] > self.time + patience:
                self.time += patience
            else:
                self.time, future, answer = first.due.popleft()
                future.set_result(answer)
        # Jobs are sent by other threads, which do not report it.
        super().turn(0.0 if answers else 0.002)


def test_a_faster_worker_gets_more_work() -> None:
    crew = SimulatedCrew(1.0, 5.0)
    run(crew, 36)
    fast, slow = (link.jobs for link in crew.links)
    assert slow >= 3
    assert fast > 3 * slow


def test_a_slow_worker_that_comes_first_does_not_keep_a_base_of_one_patch() -> None:
    """Nothing is known of either at first, and there is one group in each step."""
    crew = SimulatedCrew(50.0, 1.0)
    for _ in range(20):
        run(crew, 1)
    # The slow one had 2 seconds for the first step before the other one took it over.
    assert crew.time == 2 + 20
    assert [link.jobs for link in crew.links] == [1, 20]


def test_a_fast_worker_that_joins_a_slow_one_is_tried_at_once() -> None:
    crew = SimulatedCrew(50.0, 1.0)
    crew.greet = lambda member: crew.admit(member) if member.name == "worker 0" else None
    run(crew, 1)
    assert crew.time == 50
    crew.admit(crew.members[1])
    for _ in range(19):
        run(crew, 1)
    assert crew.time == 50 + 19


def test_a_worker_of_unknown_speed_holds_one_group() -> None:
    crew = SimulatedCrew(1.0, 50.0)
    run(crew, 36)
    assert [link.jobs for link in crew.links] == [36, 1]


def test_a_worker_that_was_slow_is_expected_to_be_slow_in_another_kind_of_work() -> None:
    """It gets none of the first groups if the other one does all of them in the meantime."""
    crew = SimulatedCrew(1.0, 50.0)
    run(crew, 36)
    crew.wait(lambda: not any(member.jobs for member in crew.members), 100)
    run(crew, 24, kind="another")
    assert crew.links[1].jobs == 1
    run(crew, 120, kind="a third")
    assert crew.links[1].jobs == 3


def test_an_idle_worker_repeats_no_job_of_one_that_was_as_fast() -> None:
    """Of another kind of work, which takes longer."""
    crew = SimulatedCrew(1.0, 1.0)
    run(crew, 8)
    for link in crew.links:
        link.seconds = 30.0
    run(crew, 1, kind="another")
    assert sum(link.jobs for link in crew.links) == 8 + 1


@pytest.mark.parametrize("kind", ["another", QUESTION])
def test_the_first_job_of_its_kind_is_repeated_once_it_is_late(kind: str) -> None:
    crew = SimulatedCrew(1.0, 1.0)
    run(crew, 8)
    crew.links[0].seconds = math.inf
    run(crew, 1, kind=kind)
    assert [link.jobs for link in crew.links] == [5, 5]
    assert LATE_SECONDS < crew.time < LATE_SECONDS + 10


def test_the_time_of_a_question_says_nothing_about_other_jobs() -> None:
    crew = SimulatedCrew(1.0, 1.0)
    run(crew, 8)
    for member, seconds in zip(crew.members, (30.0, 1.0), strict=True):
        member.rates[QUESTION] = seconds
    run(crew, 8, kind="another")
    assert [link.jobs for link in crew.links] == [4 + 4, 4 + 4]


def test_two_equal_workers_share_the_last_group_of_a_step() -> None:
    crew = SimulatedCrew(1.0, 1.0)
    run(crew, 8)
    for _ in range(3):
        run(crew, 1)
    assert crew.time == 4 + 3


def test_a_far_slower_worker_does_not_delay_the_others() -> None:
    """Another worker does its first job as well; after that its speed is known, and it gets none."""
    fast, slow = Sleeper(seconds=0.02), Sleeper(seconds=60)
    crew = crew_of(fast, slow)
    run(crew, 12)
    assert slow.ended == 0
    slow.woken.set()
    crew.wait(lambda: not any(member.jobs for member in crew.members), 60)
    run(crew, 12)
    assert len(slow.begun) <= 2


def test_late_jobs_are_given_to_another_worker_too() -> None:
    late, other = Sleeper(seconds=0.02, first=60), Sleeper(seconds=0.02)
    run(crew_of(late, other), 10)
    assert late.ended == 0
    late.woken.set()


def test_a_worker_whose_lease_expires_is_dropped_with_one_message() -> None:
    crew, said = SimulatedCrew(math.inf, 1.0, leases=Leases(first=30, least=30)), list[str]()
    crew.tell = said.append
    run(crew, 10)
    crew.wait(lambda: len(crew.members) == 1, 60)
    assert len(said) == 1
    assert said[0].startswith("worker worker 0: no answer for 30 seconds")


def test_a_failed_device_is_dropped_and_the_failure_of_the_last_one_ends_the_run() -> None:
    broken, whole = Sleeper(lost="CUDA error: an illegal memory access"), Sleeper()
    crew, said = crew_of(broken, whole), list[str]()
    crew.tell = said.append
    run(crew, 6)
    assert said == ["worker worker 0: CUDA error: an illegal memory access; its work goes to the others"]
    with pytest.raises(DeviceError, match=r"no worker is left \(worker 0: CUDA error"):
        run(crew_of(Sleeper(lost="CUDA error")), 6)


def test_workers_that_join_later_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelsmith.engine.crew.JOIN_SECONDS", 0.1)
    first, second = Sleeper(seconds=0.05), Sleeper(seconds=0.05)
    done = threading.Event()

    class Late(ThreadLinks):
        def more(self) -> Sequence[Link]:
            if not done.is_set():
                return super().more()
            done.clear()
            return [ThreadLink("late", second)]

    run(Crew(Late([ThreadLink("first", first)])), 30, lambda group: done.set() if group[0] == 3 else None)
    assert len(second.begun) > 5


def test_a_worker_of_another_version_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(Worker):
        def describe(self) -> tuple[str, Any]:
            what, about = super().describe()
            return what, replace(about, versions=about.versions | {"pixelsmith": "0.0.1"})

    links = ThreadLinks([ThreadLink("old", Old("cpu"))])
    monkeypatch.setattr("pixelsmith.workers.fleet.Processes", lambda devices: links)
    fleet = Fleet(Workers(("cpu",)))
    with pytest.raises(RequestError, match=r"devices: no worker is left \(old: it has pixelsmith 0.0.1, the run has"):
        fleet._gather()
    assert difference_of({"torch": "1"}, {"torch": "1", "gguf": "2"}) == "it has gguf not at all, the run has 2"


def fleet_of(worker: Worker, clock: Callable[[], float], monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr("pixelsmith.workers.fleet.Processes", lambda devices: ThreadLinks([ThreadLink("one", worker)]))
    monkeypatch.setattr("pixelsmith.workers.fleet.Crew", partial(Crew, clock=clock))
    return Fleet(Workers(("cpu",)))


def test_the_time_between_a_plan_and_a_picture_is_not_one_of_waiting_for_workers(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan starts those of a cluster without loading the model."""
    now, compute = [0.0], Compute(dtype="float32")
    fleet = fleet_of(Worker("cpu"), lambda: now[0], monkeypatch)
    found = FoundModel.of(str(tiny_model), Parts(), compute)
    fleet.team(found, compute)
    now[0] += 3 * 3600
    fleet.team(found, compute)
    now[0] += 3 * 3600
    fleet.load(ModelFiles(str(tiny_model), tiny_model, Parts()), compute, found.facts)
    assert len(fleet.crew.ready) == 1


def test_workers_on_accelerators_have_the_batches_of_one(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, compute = fleet_of(Worker("cpu"), time.monotonic, monkeypatch), Compute(dtype="float32")
    fleet.team(FoundModel.of(str(tiny_model), Parts(), compute), compute)
    for device in ("cpu", "cuda"):
        fleet.abouts = {member: replace(about, device=device) for member, about in fleet.abouts.items()}
        with fleet.executor(unsaid, silent) as (many, _):
            assert many.even == (device != "cpu")


def test_workers_have_two_hours_to_load_the_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, going, compute = [0.0], threading.Event(), Compute(dtype="float32")

    class Fetching(Worker):
        def open(self, spec: ModelSpec) -> tuple[str, Any]:
            going.wait(60)
            return "refused", "too late"

    def minutes_pass() -> float:
        now[0] += 60
        return now[0]

    fleet = fleet_of(Fetching("cpu"), lambda: now[0], monkeypatch)
    found = FoundModel.of(str(tiny_model), Parts(), compute)
    fleet.team(found, compute)
    fleet.crew._clock = minutes_pass
    with pytest.raises(RequestError, match=r"devices: no worker had loaded the model after 12\d minutes"):
        fleet.load(ModelFiles(str(tiny_model), tiny_model, Parts()), compute, found.facts)
    going.set()


def test_a_worker_with_different_files_is_refused_and_one_without_receives_them(
    tiny_model: Path, tmp_path: Path
) -> None:
    place = tmp_path / "a model"
    shutil.copytree(tiny_model, place)
    files = ModelFiles(str(place), place, Parts())
    spec = ModelSpec(files.spelled, Parts(), Compute(dtype="float32"), files.digest)
    refused = "refused", f"the files of {place} there are not those of the run"
    assert Worker("cpu").open(replace(spec, digest="other")) == refused
    packed = files.packed
    # On the worker's disk there is no such folder.
    place.rename(tmp_path / "moved")
    worker = Worker("cpu")
    assert worker.open(spec) == ("done", None)
    worker.receive(packed)
    what, opened = worker.open(replace(spec, sent=True))
    assert what == "done", opened
    assert worker._part_at("family", None).facts.native_size == Size(64, 64)


@pytest.mark.parametrize("on", [True, False])
def test_a_model_for_deterministic_algorithms_is_loaded_with_them(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    """The first use of cuBLAS in a process, which may be here, decides for all later ones."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    seen = list[tuple[bool, bool]]()

    def load(*given: Any) -> Family:
        seen.append((torch.are_deterministic_algorithms_enabled(), "CUBLAS_WORKSPACE_CONFIG" in os.environ))
        return load_family(*given)

    monkeypatch.setattr("pixelsmith.workers.worker.load_family", load)
    what, opened = Worker("cpu").open(ModelSpec(str(tiny_model), Parts(), Compute(deterministic=on)))
    assert what == "done", opened
    assert seen == [(on, on)]


def test_sent_files_are_removed_whether_they_can_be_loaded_or_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = ModelFiles(str(tiny_model), tiny_model, Parts())
    spec = ModelSpec(files.spelled, files.parts, Compute(dtype="float32"), files.digest, sent=True)
    for digest, expected in ((files.digest, "done"), ("other", "refused")):
        worker = Worker("cpu")
        worker.receive(files.packed)
        assert len(list(tmp_path.iterdir())) == 1
        what, _ = worker.open(replace(spec, digest=digest))
        assert what == expected
        assert not list(tmp_path.iterdir())


def test_a_controlnet_that_a_worker_lacks_is_sent_or_named(tiny_model: Path, tmp_path: Path) -> None:
    place = tmp_path / "a control"
    with quiet():
        unet = DiffusionPipeline.from_pretrained(tiny_model).unet
        ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 32)).save_pretrained(place)
    files = ModelFiles(str(tiny_model), tiny_model, Parts(controlnets=(ControlNet(str(place)),)))
    spec, packed = ModelSpec(files.spelled, files.parts, Compute(dtype="float32"), files.digest), files.packed
    place.rename(tmp_path / "moved")
    # On the same machine nothing is sent.
    what, reason = Worker("cpu").open(replace(spec, digest=None))
    assert what == "refused"
    assert f"ControlNet '{place}': there is no such file or folder here" in reason
    worker = Worker("cpu")
    assert worker.open(spec) == ("done", None)
    worker.receive(packed)
    what, opened = worker.open(replace(spec, sent=True))
    assert what == "done", opened
    assert len(worker._part_at("family", None).controlnets) == 1


def test_a_single_call_is_answered_by_any_worker() -> None:
    assert ask(crew_of(Sleeper(lost="broken"), Sleeper()), partial(sum, [1, 2])) == 3


class Crowded:
    """What a device has no memory for."""

    def __call__(self, *given: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    encode = __call__

    @property
    def autoencoder(self) -> Crowded:
        return self


def test_tiles_that_do_not_fit_into_memory_are_an_error_of_the_caller_and_no_worker_is_lost() -> None:
    crew = crew_of(*(Worker("cpu", Crowded()) for _ in range(2)))  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError):
        RemoteAutoencoder(Crowded(), crew).encode(torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]
    assert len(crew.ready) == 2


def test_prompts_go_to_a_worker_that_has_memory_for_them() -> None:
    facts = SleepingFamily(Device(), 8, 0.0).facts
    crew = crew_of(*(Worker("cpu", own) for own in (Crowded(), SleepingFamily(Device(), 8, 0.0))))  # type: ignore[arg-type]
    assert RemoteFamily(facts, crew, None, None).encode("a map", "")
    alone = crew_of(Worker("cpu", Crowded()))  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="the device has no memory for a single call"):
        RemoteFamily(facts, alone, None, None).encode("a map", "")


@pytest.mark.parametrize(
    ("devices", "ray", "message"),
    [
        ("gpu0", None, "expected names such as cuda:0"),
        ("cuda:0,cuda:0", None, "cuda:0 is given twice"),
        ("cuda,cuda", None, "cuda is given twice; number them, such as cuda:0,cuda:1"),
        ("rocm:1,rocm", None, "cuda is given twice"),
        ("mps:0,mps:1", None, "mps is given twice$"),
        ("cuda:0", "auto", "with --ray they are kinds"),
        ("", None, "expected at least one"),
    ],
)
def test_unknown_devices_are_refused(devices: str, ray: str | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Workers.parse(devices, ray)


def test_names_of_workers() -> None:
    assert Workers.parse(None, None) is None
    assert Workers.parse("rocm:0, cpu", None) == Workers(("cuda:0", "cpu"))
    assert Workers.parse("cuda,xpu,cpu,cpu", None) == Workers(("cuda", "xpu", "cpu", "cpu"))
    assert Workers.parse("cuda,cuda", "auto") == Workers(("cuda", "cuda"), "auto")
    assert Placement(workers=Workers(("cpu",))).of(Compute("cuda")).device == "auto"


def test_settings_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Workers(("cpu", "cpu"))
    with pytest.raises(RequestError, match="leave out --device cpu"):
        check_workers(two, Compute("cpu"))
    with pytest.raises(RequestError, match="encoders-released is for one device"):
        check_workers(two, Compute(memory="encoders-released"))
    monkeypatch.setattr("pixelsmith.workers.cluster.find_spec", lambda name: None)
    with pytest.raises(MissingPartError, match=r"pip install 'pixelsmith\[ray\]'"):
        check_ray()


def test_a_process_sees_its_own_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert environment("cuda:1", ["cuda:0", "cuda:1"])["CUDA_VISIBLE_DEVICES"] == "6"
    assert environment("cpu", ["cpu", "cpu"])["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in environment("cpu", ["cuda:0", "cpu"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert environment("cuda:1", ["cuda:0", "cuda:1"])["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_device_that_the_environment_hides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_workers(Workers(("cuda:0", "cuda:1")), Compute())
    with pytest.raises(RequestError, match=r"devices: cuda:2 is not among CUDA_VISIBLE_DEVICES=2,3, the first"):
        check_workers(Workers(("cuda:0", "cuda:2")), Compute())


def test_the_speeds_of_workers_are_added() -> None:
    rates = Rates(encode=1.0, double=0.2, control=3.0, denoise=2.0, decode=4.0, write=0.1, upsample=8.0)
    assert together([None]) is None
    assert together([rates, None]) == replace(
        rates, encode=0.5, double=0.1, control=1.5, denoise=1.0, decode=2.0, upsample=4.0
    )
    mixed = together([rates, Rates(encode=3.0, denoise=2.0, decode=4.0)])
    assert mixed is not None
    assert mixed.encode == pytest.approx(0.75)
    team = Team(("cuda", "cpu", "cuda"), ("H", "A", "H"), "float32")
    assert (team.name, team.device, team.processor) == ("cpu x1 and cuda x2", "cuda and cpu", "A, H")


def test_workers_on_the_cpu_of_a_machine_share_its_memory() -> None:
    def about(host: str, device: str, memory: int | None) -> About:
        return About(host, 1, device, "A", memory, ("float32", "float32"), {})

    abouts = [about("a", "cpu", 900), about("a", "cpu", 900), about("a", "cuda", 80), about("a", "cuda", 80)]
    abouts += [about("b", "cpu", 300), about("b", "xpu", None)]
    assert memories_of(abouts) == (450, 450, 80, 80, 300, None)
    team = Team(("cpu", "cpu", "cuda"), ("A",) * 3, "float32", memories=(450, 300, None))
    assert team.rooms == {"cpu": 300}


def test_the_progress_bar_shows_the_rates_of_the_first_workers() -> None:
    assert shares({}) == ""
    assert shares({"cuda:0": 3.14, "cuda:1": 3.0}) == " (cuda:0 3.1, cuda:1 3.0)"
    assert shares({f"cuda:{i}": 1.0 for i in range(6)}).endswith(", cuda:3 1.0, 2 more)")


def test_a_step_is_shared_by_at_most_as_many_workers_as_it_has_batches() -> None:
    """25 patches at 4096²: one round with 25 workers, two with 24."""
    assert limit(4096, 25, 1, batch_size=1) == 1
    assert limit(4096, 24, 1, batch_size=1) == pytest.approx(25 / 48)
