"""What happens during a run, as values. An observer is any callable that takes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import get_ident

from pixelsmith.config.plans import Plan
from pixelsmith.geometry import Size


@dataclass(frozen=True)
class RunStarted:
    """The request is checked and planned; the model is loaded next. ``run_dir`` is where the work is kept, if it is."""

    plan: Plan
    run_dir: str | None = None


@dataclass(frozen=True)
class StageStarted:
    """A rung of the cascade begins; stage 0 is the base picture."""

    stage: int
    stages: int
    size: Size


@dataclass(frozen=True)
class Progress:
    """Units of a phase that are done, out of ``total``.

    ``phase`` is ``caption`` (units: places), ``upsample`` (pixels, by an upsampler that several devices share),
    ``encode``, ``double`` (latents, by the model's network), ``control`` (encoding a control picture) or ``decode``
    (units: tiles), ``denoise`` (units: patches of this step) or ``write`` (units: rows of pixels). ``step`` counts from
    1 to ``steps`` while denoising, else both are 1. ``share`` (0..1) is how much of the whole run's time is over,
    ``seconds_left`` how long the rest of it takes, as far as it is known.
    ``workers``: where several devices share the work, how many of these units each does in a second.
    """

    stage: int
    phase: str
    step: int
    steps: int
    done: int
    total: int
    share: float = 0.0
    seconds_left: float | None = None
    workers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseFinished:
    """A phase of a stage is done after ``seconds``: ``caption``, ``upsample``, ``encode``, ``double``,
    ``control``, ``denoise``, ``decode`` or ``write`` (the file).
    """

    stage: int
    phase: str
    seconds: float


@dataclass(frozen=True)
class RunFinished:
    """The picture is there; ``path`` is ``None`` where it was asked for in memory only."""

    path: str | None
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something that the user should know; the run goes on."""

    message: str


Event = RunStarted | Warned | StageStarted | Progress | PhaseFinished | RunFinished
Observer = Callable[[Event], None]


def silent(event: Event) -> None:
    """The observer that does nothing."""


@contextmanager
def delivered_here(observer: Observer) -> Iterator[Observer]:
    """An observer that any thread may call; the given one is called by this thread alone, with the same events.

    Events of other threads wait for the next event of this thread, or for the end of the context.
    """
    here, waiting = get_ident(), deque[Event]()

    def deliver() -> None:
        while waiting:
            observer(waiting.popleft())

    def observe(event: Event) -> None:
        waiting.append(event)
        if get_ident() == here:
            deliver()

    try:
        yield observe
    except BaseException:
        # An observer that raises as well must not hide why the run ended.
        with suppress(Exception):
            deliver()
        raise
    deliver()
