"""What every executor must do; a new one is added to ``EXECUTORS``."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pixelsmith import Compute, DeviceError, Method, Request, Size, generate
from pixelsmith.engine import Executor, Serial, Threaded, Work
from pixelsmith.engine.executor import OnDone, OnSplit
from tests.devices import DEVICES

EXECUTORS: dict[str, Callable[[OnSplit], AbstractContextManager[Executor]]] = {
    "serial": lambda on_split: nullcontext(Serial(on_split)),
    "threaded": lambda on_split: Threaded(on_split, readers=1),
    "several readers": lambda on_split: Threaded(on_split, readers=3),
}
EVERY = pytest.mark.parametrize("kind", EXECUTORS)


def unheard(kind: str, most: int) -> None:
    pass


@dataclass
class Desk:
    """Work on numbered items: the value of item i is i. Remembers what was done in which thread.

    - ``room``: items that the device has memory for at once; ``error``: what it raises for more.
    - ``delay``: called before each part of the work.
    """

    count: int = 10
    size: int = 4
    room: int = 99
    full: int | None = None
    device: str = "cpu"
    error: RuntimeError = field(default_factory=lambda: torch.OutOfMemoryError("out of memory"))
    delay: Callable[[], None] = lambda: None
    failing: str = ""
    done: list[tuple[str, int]] = field(default_factory=list)
    kept: dict[int, float] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
    threads: dict[str, set[int]] = field(default_factory=dict)

    @property
    def work(self) -> Work[Tensor]:
        groups = (range(i, min(i + self.size, self.count)) for i in range(0, self.count, self.size))
        return Work("one item", groups, self.read, self.compute, self.write, self.place, self.full)

    def read(self, indices: Sequence[int]) -> Tensor:
        self._note("read", indices[0])
        return torch.tensor([float(index) for index in indices])

    def compute(self, items: Tensor) -> Tensor:
        self._note("compute", int(items[0]))
        self.calls.append(len(items))
        if len(items) > self.room:
            raise self.error
        return items.to(self.device, non_blocking=True)[:, None].expand(-1, 3).contiguous()

    def write(self, group: Sequence[int], values: Tensor) -> None:
        self._note("write", group[0])
        assert values.device.type == "cpu"
        assert values.shape == (len(group), 3)
        for index, value in zip(group, values, strict=True):
            self.kept[index] = float(value[0])

    def place(self, group: Sequence[int]) -> str:
        return f"items {group[0]} to {group[-1] + 1}"

    def _note(self, what: str, index: int) -> None:
        self.delay()
        self.done.append((what, index))
        self.threads.setdefault(what, set()).add(threading.get_ident())
        if self.failing == f"{what} {index}":
            raise ValueError("broken")


def run(kind: str, desk: Desk, on_split: OnSplit = unheard, on_done: OnDone = lambda group: None) -> None:
    with EXECUTORS[kind](on_split) as executor:
        assert isinstance(executor, Executor)
        executor.run(desk.work, on_done)


@EVERY
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 4, 10, 33])
def test_every_item_is_kept_and_reported_once_in_order(kind: str, device: str, count: int) -> None:
    desk, reported = Desk(count, device=device), list[Sequence[int]]()

    def report(group: Sequence[int]) -> None:
        assert set(group) <= desk.kept.keys(), "what is reported is written"
        assert max(desk.kept) < group[-1] + 1, "and nothing beyond it"
        reported.append(group)

    run(kind, desk, on_done=report)
    assert desk.kept == {i: i for i in range(count)}
    assert reported == [range(i, min(i + 4, count)) for i in range(0, count, 4)]


@EVERY
@pytest.mark.parametrize("seed", range(3))
def test_timing_changes_nothing(kind: str, seed: int) -> None:
    chance = random.Random(seed)
    desk = Desk(30, delay=lambda: time.sleep(chance.choice([0, 0, 0.003])))
    run(kind, desk)
    assert desk.kept == {i: i for i in range(30)}
    assert [index for what, index in desk.done if what == "write"] == list(range(0, 30, 4))


@EVERY
def test_no_more_is_read_ahead_than_is_said(kind: str) -> None:
    """Whatever is slow: memory does not grow with the work."""
    for slow in ("read", "compute", "write"):
        desk = Desk(40)
        read = {"most": 0}

        def look(desk: Desk = desk, read: dict[str, int] = read, slow: str = slow) -> None:
            waiting = sum(what == "read" for what, _ in desk.done) - sum(what == "write" for what, _ in desk.done)
            read["most"] = max(read["most"], waiting)
            time.sleep(0.002 if slow == "compute" else 0)

        run(kind, replace(desk, delay=look, done=desk.done))
        assert read["most"] <= 4 + 3, "read ahead, in work, computed and on its way to be written"


def test_reading_and_writing_do_not_keep_the_device_waiting() -> None:
    """Each takes half as long as computing: hidden behind it, but for the first and the last."""
    slow = Desk(40)

    def waits(what: str, seconds: float) -> Callable[..., Any]:
        real = getattr(Desk, what)

        def waited(*given: Any) -> Any:
            time.sleep(seconds)
            return real(slow, *given)

        return waited

    work = replace(slow.work, read=waits("read", 0.02), compute=waits("compute", 0.04), write=waits("write", 0.02))
    began = time.perf_counter()
    with Threaded(readers=1) as executor:
        executor.run(work, lambda group: None)
    assert time.perf_counter() - began < 10 * 0.04 + 0.15, "one after another it is 0.8 s"
    assert len(set.union(*slow.threads.values())) == 3


@EVERY
@pytest.mark.parametrize(("room", "heard"), [(8, []), (5, [4]), (3, [4, 2]), (1, [4, 2, 1])])
def test_a_group_that_does_not_fit_is_halved_until_it_does_and_nothing_is_lost(
    kind: str, room: int, heard: list[int]
) -> None:
    desk, told = Desk(43, size=8, room=room), list[tuple[str, int]]()
    run(kind, desk, on_split=lambda name, most: told.append((name, most)))
    assert desk.kept == {i: i for i in range(43)}
    assert told == [("one item", most) for most in heard], "it is said once"
    assert sum(size > room for size in desk.calls) == len(heard), "what did not fit is not tried again"


@EVERY
def test_one_item_that_does_not_fit_is_an_error_that_says_where(kind: str) -> None:
    with pytest.raises(DeviceError, match="no memory for one item") as caught:
        run(kind, Desk(6, size=2, room=0))
    assert caught.value.__notes__ == ["to compute items 0 to 2"]


@EVERY
def test_a_device_that_says_in_words_alone_that_its_memory_ends_is_understood_and_no_other_error_is(kind: str) -> None:
    apple = RuntimeError("MPS backend out of memory (MPS allocated: 17.10 GB, max allowed: 18.13 GB)")
    desk = Desk(room=2, error=apple)
    run(kind, desk)
    assert len(desk.kept) == 10
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(kind, Desk(room=2, error=RuntimeError("shapes differ")))


@EVERY
@pytest.mark.parametrize("room", [8, 3])
def test_a_compiled_network_meets_one_batch_size_only(kind: str, room: int) -> None:
    """Whatever a group leaves over; a size that does not fit and those above it apart."""
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
def test_an_interruption_by_who_is_told_leaves_what_was_reported_and_no_more(kind: str) -> None:
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
            executor.run(Desk(failing="write 4").work, lambda group: None)
        desk = Desk()
        executor.run(desk.work, lambda group: None)
    assert len(desk.kept) == 10


@EVERY
def test_all_threads_keep_gradients_or_not_as_the_one_that_asks(kind: str) -> None:
    modes: list[bool] = []

    def note(*given: Any) -> Tensor:
        modes.append(torch.is_inference_mode_enabled())
        return torch.zeros(1)

    def keep(group: Sequence[int], values: Tensor) -> None:
        note()

    for mode in (True, False):
        with torch.inference_mode(mode), EXECUTORS[kind](unheard) as executor:
            work: Work[Any] = Work("one item", [range(1)], note, note, keep, lambda group: "")
            executor.run(work, lambda group: None)
        assert modes == [mode] * 3
        modes.clear()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether whole pictures are made with threads."""

    def say(threaded: bool) -> None:
        kind = "threaded" if threaded else "serial"
        monkeypatch.setattr("pixelsmith.api.loaded.executor_for", lambda device, on_split: EXECUTORS[kind](on_split))

    return say


METHODS: dict[str, dict[str, Any]] = {
    "held": {},
    "phase": {"merge": "phase"},
    "second order, random": {"sampler": "dpmpp-2m", "coverage": "random", "border": 2},
    "latent": {"upsampling": "latent"},
    "demofusion": {"strategy": "demofusion"},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_is_the_same_with_threads_and_without_on_disk_and_in_memory(
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


def test_the_embedded_model_too(tmp_path: Path, threads: Callable[[bool], None]) -> None:
    """Several of the exactly local autoencoder's tiles, and captions."""
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
