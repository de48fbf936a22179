"""The contract of executors; a new one is added to ``EXECUTORS``."""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelsmith import Compute, DeviceError, Method, Request, Size, Workers, generate
from pixelsmith.canvas import Array
from pixelsmith.engine import Executor, Seldom, Serial, Threaded, Work
from pixelsmith.engine.crew import Crew, Link, Links
from pixelsmith.engine.executor import OnDone, OnSplit
from pixelsmith.engine.many import Many
from pixelsmith.geometry import Window
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.repeatable import deterministic_algorithms
from pixelsmith.workers.cluster import RayLinks
from pixelsmith.workers.processes import Processes
from tests.devices import DEVICES

EXECUTORS: dict[str, Callable[[OnSplit], AbstractContextManager[Executor]]] = {
    "serial": lambda on_split: nullcontext(Serial(on_split)),
    "threaded": lambda on_split: Threaded(on_split, readers=1),
    "several readers": lambda on_split: Threaded(on_split, readers=3),
    "processes": lambda on_split: Many(kept_crew("processes"), on_split),
    "ray": lambda on_split: Many(kept_crew("ray"), on_split),
}
FAR = {"processes": 2, "ray": 2}
"""Executors that compute in other processes, and in how many."""
WITH_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
EVERY = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=WITH_RAY if kind == "ray" else ()) for kind in EXECUTORS]
)


@cache
def links_of(kind: str) -> list[Link]:
    """Workers without a model, which are started once for all tests."""
    links = Processes(["cpu", "cpu"]) if kind == "processes" else RayLinks(Workers(("cpu", "cpu"), "local"))
    started[kind] = links
    return list(links.more())


started: dict[str, Links] = {}


@dataclass(frozen=True)
class Spared:
    """A link that is not killed, because other tests use its worker."""

    link: Link

    @property
    def name(self) -> str:
        return self.link.name

    def call(self, method: str, *given: Any) -> Future[Any]:
        return self.link.call(method, *given)

    def kill(self) -> None:
        pass


@dataclass
class SparedLinks:
    left: list[Link]

    def more(self) -> list[Link]:
        left, self.left = self.left, []
        return left

    def close(self) -> None:
        pass


def kept_crew(kind: str) -> Crew:
    return Crew(SparedLinks([Spared(link) for link in links_of(kind)]))


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    yield
    for links in started.values():
        links.close()


def unheard(kind: str, most: int) -> None:
    pass


def new_file() -> Path:
    handle, name = tempfile.mkstemp()
    os.close(handle)
    return Path(name)


@dataclass(frozen=True)
class Log:
    """What was done by which thread or process, in order: one line each in a file that several processes write."""

    path: Path = field(default_factory=new_file)

    def add(self, what: str, index: int, count: int) -> None:
        with self.path.open("a") as file:
            file.write(f"{what} {index} {count} {os.getpid()}-{threading.get_ident()}\n")

    @property
    def lines(self) -> list[tuple[str, int, int, str]]:
        found = [line.split() for line in self.path.read_text().splitlines()]
        return [(what, int(index), int(count), who) for what, index, count, who in found]


@dataclass(frozen=True)
class Bench:
    """The computation, which is sent to other processes."""

    log: Log
    room: int
    device: str
    error: RuntimeError
    failing: str
    delay: Callable[[], None] | None

    def __call__(self, items: Tensor) -> Tensor:
        if self.delay:
            self.delay()
        self.log.add("compute", int(items[0]), len(items))
        if self.failing == f"compute {int(items[0])}":
            raise ValueError("broken")
        if len(items) > self.room:
            raise self.error
        return items.to(self.device, non_blocking=True)[:, None].expand(-1, 3).contiguous()


@dataclass(frozen=True)
class Several:
    """Three values of each item."""

    compute: Callable[[Tensor], Tensor]

    def __call__(self, items: Tensor) -> tuple[Tensor, ...]:
        self.compute(items)
        return items, items[:, None] > 4, items.to(torch.uint8)


@dataclass
class Desk:
    """Work on numbered items: the value of item i is i. Remembers what was done in which thread.

    - ``room``: items that the device has memory for at once; ``error``: what it raises for more.
    - ``delay``: called before each part of the work that is done in this process.
    """

    count: int = 10
    size: int = 4
    room: int = 99
    full: int | None = None
    device: str = "cpu"
    error: RuntimeError = field(default_factory=lambda: torch.OutOfMemoryError("out of memory"))
    delay: Callable[[], None] = lambda: None
    failing: str = ""
    kept: dict[int, float] = field(default_factory=dict)
    log: Log = field(default_factory=Log)

    @property
    def done(self) -> list[tuple[str, int]]:
        return [(what, index) for what, index, _, _ in self.log.lines]

    @property
    def calls(self) -> list[int]:
        """The number of items of each call."""
        return [count for what, _, count, _ in self.log.lines if what == "compute"]

    @property
    def work(self) -> Work[Tensor, Tensor]:
        return self.work_of("serial")

    def work_of(self, kind: str) -> Work[Tensor, Tensor]:
        groups = (range(i, min(i + self.size, self.count)) for i in range(0, self.count, self.size))
        delay = None if kind in FAR else self.delay
        compute = Bench(self.log, self.room, self.device, self.error, self.failing, delay)
        return Work("one item", groups, self.read, compute, self.write, self.place, self.full)

    def read(self, indices: Sequence[int]) -> Tensor:
        self._note("read", indices)
        return torch.tensor([float(index) for index in indices])

    def write(self, group: Sequence[int], values: Tensor) -> None:
        self._note("write", group)
        assert values.device.type == "cpu"
        assert values.shape == (len(group), 3)
        for index, value in zip(group, values, strict=True):
            self.kept[index] = float(value[0])

    def place(self, group: Sequence[int]) -> str:
        return f"items {group[0]} to {group[-1] + 1}"

    def _note(self, what: str, group: Sequence[int]) -> None:
        self.delay()
        self.log.add(what, group[0], len(group))
        if self.failing == f"{what} {group[0]}":
            raise ValueError("broken")


def run(kind: str, desk: Desk, on_split: OnSplit = unheard, on_done: OnDone = lambda group: None) -> None:
    with EXECUTORS[kind](on_split) as executor:
        assert isinstance(executor, Executor)
        executor.run(desk.work_of(kind), on_done)


@EVERY
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 4, 10, 33])
def test_every_item_is_written_and_reported_once_in_order(kind: str, device: str, count: int) -> None:
    desk, reported = Desk(count, device=device), list[Sequence[int]]()

    def report(group: Sequence[int]) -> None:
        assert set(group) <= desk.kept.keys(), "what is reported is written"
        assert max(desk.kept) < group[-1] + 1, "and nothing beyond it"
        reported.append(group)

    run(kind, desk, on_done=report)
    assert desk.kept == {i: i for i in range(count)}
    assert reported == [range(i, min(i + 4, count)) for i in range(0, count, 4)]


@dataclass(frozen=True)
class Beside:
    """Adds what a canvas has at each item."""

    compute: Callable[[Tensor], Tensor]
    canvas: Readable

    def __call__(self, items: Tensor) -> Tensor:
        beside = [self.canvas.read(Window(0, int(item), 1, 1)).flatten() for item in items]
        return self.compute(items) + torch.stack(beside)


@EVERY
def test_windows_that_are_declared_can_be_read_where_it_is_computed(kind: str) -> None:
    desk, canvas = Desk(10), Array(100.0 * torch.arange(10.0).reshape(1, 1, 10))
    work = desk.work_of(kind)

    def reads(indices: Sequence[int]) -> list[tuple[Readable, Window]]:
        return [(canvas, Window(0, index, 1, 1)) for index in indices]

    with EXECUTORS[kind](unheard) as executor:
        executor.run(replace(work, compute=Beside(work.compute, canvas), reads=reads), lambda group: None)
    assert desk.kept == {i: 101 * i for i in range(10)}


@EVERY
@pytest.mark.parametrize("seed", range(3))
def test_results_do_not_depend_on_timing(kind: str, seed: int) -> None:
    chance = random.Random(seed)
    desk = Desk(30, delay=lambda: time.sleep(chance.choice([0, 0, 0.003])))
    run(kind, desk)
    assert desk.kept == {i: i for i in range(30)}
    assert [index for what, index in desk.done if what == "write"] == list(range(0, 30, 4))


@EVERY
def test_reading_ahead_is_limited(kind: str) -> None:
    """Whatever is slow, so that memory does not grow with the work."""
    for slow in ("read", "compute", "write"):
        desk = Desk(40)
        read = {"most": 0}

        def look(desk: Desk = desk, read: dict[str, int] = read, slow: str = slow) -> None:
            # Groups, not readings: what a worker is late with is read again for another one.
            done = desk.done
            begun, written = ({first for noted, first in done if noted == what} for what in ("read", "write"))
            read["most"] = max(read["most"], len(begun - written))
            time.sleep(0.002 if slow == "compute" else 0)

        run(kind, replace(desk, delay=look))
        assert read["most"] <= 4 + 3, "read ahead, in work, computed and on its way to be written"


def test_reading_and_writing_overlap_with_computing() -> None:
    """A group is computed while the next one is read and the last one is written: here each waits for the others."""
    desk = Desk(40)
    begun = {(what, first): threading.Event() for what in ("read", "compute", "write") for first in range(0, 40, 4)}

    def meeting(what: str, beside: str, other: int) -> Callable[..., Any]:
        real = getattr(desk.work, what)

        def met(given: Any, *values: Any) -> Any:
            first = int(given[0])
            begun[what, first].set()
            if (beside, first + other) in begun:
                assert begun[beside, first + other].wait(30), f"{what} of {first} is not beside another {beside}"
            return real(given, *values)

        return met

    work = replace(
        desk.work,
        compute=meeting("compute", "read", 4),
        read=meeting("read", "read", 0),
        write=meeting("write", "compute", 4),
    )
    with Threaded(readers=1) as executor:
        executor.run(work, lambda group: None)
    assert len({who for _, _, _, who in desk.log.lines}) == 3


@EVERY
@pytest.mark.parametrize(("room", "heard"), [(8, []), (5, [4]), (3, [4, 2]), (1, [4, 2, 1])])
def test_a_group_that_does_not_fit_into_memory_is_halved_until_it_does(kind: str, room: int, heard: list[int]) -> None:
    desk, told = Desk(43, size=8, room=room), list[tuple[str, int]]()
    run(kind, desk, on_split=lambda name, most: told.append((name, most)))
    assert desk.kept == {i: i for i in range(43)}
    assert told == [("one item", most) for most in heard], "it is said once"
    # Each worker learns by itself, and has two jobs at a time.
    tried = sum(size > room for size in desk.calls)
    assert tried <= 2 * FAR[kind] * len(heard) if kind in FAR else tried == len(heard), "it is not tried again"


@EVERY
def test_an_item_that_does_not_fit_into_memory_is_an_error_with_its_place(kind: str) -> None:
    with pytest.raises(DeviceError, match="no memory for one item") as caught:
        run(kind, Desk(6, size=2, room=0))
    assert caught.value.__notes__ == ["to compute items 0 to 2"]


@EVERY
def test_out_of_memory_errors_are_recognised_by_their_message_too(kind: str) -> None:
    apple = RuntimeError("MPS backend out of memory (MPS allocated: 17.10 GB, max allowed: 18.13 GB)")
    desk = Desk(room=2, error=apple)
    run(kind, desk)
    assert len(desk.kept) == 10
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(kind, Desk(room=2, error=RuntimeError("shapes differ")))


@EVERY
@pytest.mark.parametrize("room", [8, 3])
def test_a_compiled_network_is_called_with_one_batch_size_only(kind: str, room: int) -> None:
    """Also for incomplete groups, except for halved batches."""
    for count in (8, 5, 1, 19):
        desk = Desk(count, size=8, room=room, full=8)
        run(kind, desk)
        assert desk.kept == {i: i for i in range(count)}
        assert {size for size in desk.calls if size <= room} == {8 if room == 8 else 2}


@EVERY
@pytest.mark.parametrize("what", ["read", "compute", "write"])
def test_what_fails_is_told_with_its_place_and_nothing_is_written_after_it(kind: str, what: str) -> None:
    desk, reported = Desk(40, failing=f"{what} 12"), list[int]()
    with pytest.raises(ValueError, match="broken") as caught:
        run(kind, desk, on_done=lambda group: reported.append(group[0]))
    assert caught.value.__notes__ == [f"to {what} items 12 to 16"]
    done = len(desk.done)
    assert reported in ([0, 4], [0, 4, 8])
    assert max(desk.kept) < 12
    time.sleep(0.05)
    assert len(desk.done) == done, "nothing goes on"


@EVERY
def test_an_interruption_by_the_observer_keeps_exactly_what_was_reported(kind: str) -> None:
    desk = Desk(40)

    def interrupt(group: Sequence[int]) -> None:
        if group[0] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        run(kind, desk, on_done=interrupt)
    assert not hasattr(caught.value, "__notes__")
    assert desk.kept.keys() == set(range(12))


@EVERY
def test_an_executor_can_be_used_again_after_a_failure(kind: str) -> None:
    with EXECUTORS[kind](unheard) as executor:
        with pytest.raises(ValueError, match="broken"):
            executor.run(Desk(failing="write 4").work_of(kind), lambda group: None)
        desk = Desk()
        executor.run(desk.work_of(kind), lambda group: None)
    assert len(desk.kept) == 10


@EVERY
def test_background_tasks_are_done_when_their_result_is_needed(kind: str) -> None:
    """Those ahead of work, at the latest before it; those behind it, after its writes and before later ones."""
    desk, later = Desk(), Desk()
    with EXECUTORS[kind](unheard) as executor:
        opened = executor.ahead(lambda: torch.is_inference_mode_enabled())
        executor.run(desk.work_of(kind), lambda group: None)
        kept = executor.behind(lambda: (len(desk.kept), len(later.kept)))
        executor.run(later.work_of(kind), lambda group: None)
        assert opened() is False
        assert kept() == (10, 0)
        assert kept() == (10, 0)


@EVERY
def test_errors_of_background_tasks_are_raised(kind: str) -> None:
    def broken() -> None:
        raise ValueError("broken")

    with EXECUTORS[kind](unheard) as executor:
        opened = executor.ahead(broken)
        with pytest.raises(ValueError, match="broken"):
            opened()
        with pytest.raises(ValueError, match="broken"):
            executor.behind(broken)()


@EVERY
def test_several_values_of_each_item_are_kept_together(kind: str) -> None:
    """Also if memory runs out, and for padded groups."""
    desk, kept = Desk(10, room=2, full=4), dict[int, tuple[float, ...]]()
    work = desk.work_of(kind)

    def write(group: Sequence[int], values: tuple[Tensor, ...]) -> None:
        assert [len(each) for each in values] == [len(group)] * 3
        kept.update({i: tuple(float(each[at]) for each in values) for at, i in enumerate(group)})

    with EXECUTORS[kind](unheard) as executor:
        executor.run(replace(work, compute=Several(work.compute), write=write), lambda group: None)  # type: ignore[arg-type]
    assert kept == {i: (i, i > 4, i) for i in range(10)}


def test_seldom_repeats_a_call_after_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [0.0], list[float]()
    monkeypatch.setattr("pixelsmith.engine.seldom.time.monotonic", lambda: now[0])
    seldom = Seldom(lambda: done.append(now[0]), seconds=1.0)
    for now[0] in (0.0, 0.5, 1.0, 1.9, 2.0, 7.0, 7.5):
        seldom()
    assert done == [1.0, 2.0, 7.0]


@EVERY
@pytest.mark.parametrize("mode", [torch.inference_mode, deterministic_algorithms])
def test_modes_of_the_caller_are_on_in_every_thread_and_process(
    kind: str, mode: Callable[[bool], AbstractContextManager[None]]
) -> None:
    for on in (True, False):
        log = Log()
        note = partial(note_modes, log)
        with mode(on), EXECUTORS[kind](unheard) as executor:
            keep = partial(keep_modes, log)
            work: Work[Any, Tensor] = Work("one item", [range(1)], note, note, keep, lambda group: "")
            executor.run(work, lambda group: None)
        expected = (on, False) if mode is torch.inference_mode else (False, on)
        noted = [tuple(modes) for _, *modes, _ in log.lines]
        # A process that is slow to begin has its job repeated by the other one.
        assert len(noted) >= 3
        assert set(noted) == {expected}


def keep_modes(log: Log, group: Sequence[int], values: Tensor) -> None:
    note_modes(log)


def note_modes(log: Log, *given: Any) -> Tensor:
    log.add("modes", int(torch.is_inference_mode_enabled()), int(torch.are_deterministic_algorithms_enabled()))
    return torch.zeros(1)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether whole pictures are made with threads."""

    def say(threaded: bool) -> None:
        kind = "threaded" if threaded else "serial"
        monkeypatch.setattr("pixelsmith.api.lifecycle.executor_for", lambda device, on_split: EXECUTORS[kind](on_split))

    return say


METHODS: dict[str, dict[str, Any]] = {
    "held": {},
    "phase": {"merge": "phase"},
    "second order, random": {"sampler": "dpmpp-2m", "coverage": "random", "border": 2},
    "latent": {"upsampling": "latent"},
    "demofusion": {"strategy": "demofusion"},
}


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_disks_do_not_change_a_picture(
    tiny_model: Path, tmp_path: Path, threads: Callable[[bool], None], method: str
) -> None:
    request = Request(
        "a map",
        Size(150, 130),
        model=str(tiny_model),
        method=Method(steps=2, **METHODS[method]),
        compute=Compute("cpu", "float32", batch_size=2),
    )
    made = []
    for threaded in (False, True):
        threads(threaded)
        made.append(generate(request).pixels)
        made.append(generate(request, run_dir=tmp_path / f"run-{threaded}").pixels)
    for other in made[1:]:
        assert np.array_equal(other, made[0])


def test_threads_do_not_change_pictures_of_the_embedded_model(tmp_path: Path, threads: Callable[[bool], None]) -> None:
    """With several tiles of its local autoencoder, and captions."""
    request = Request(
        "watercolor map of islands", Size(700, 200), method=Method(steps=2), compute=Compute("cpu", "float32")
    )
    made = []
    for threaded in (False, True):
        threads(threaded)
        made.append(generate(request, run_dir=tmp_path / f"run-{threaded}").pixels)
    assert np.array_equal(made[0], made[1])


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = {thread for thread in threading.enumerate() if thread.name.startswith("pixelsmith-")}
    yield
    after = {thread for thread in threading.enumerate() if thread.name.startswith("pixelsmith-")}
    assert after <= before
