"""The training loop of all scripts: resumable checkpoints, a loss log, learning rates, balanced sampling."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pixelsmith.families.loading.loader import choose_dtype
from training.checkpoints import Log, has_checkpoint, load_checkpoint, locked, save_checkpoint
from training.data import Record

LOG_EVERY = 50
SAVE_EVERY = 250

Losses = dict[str, float]
Progress = Callable[[int, float], float]
"""Maps (steps done, seconds of core time) to the completed share of the training, which ends at 1."""
Rate = Callable[[int, float], float]
"""Maps (steps done, completed share) to the learning rate."""


@dataclass(frozen=True)
class Chore:
    """A callback at the start, at the end, and after every interval of ``seconds`` of core time.

    ``action`` is called with the steps and the seconds; the training ends if it returns ``True``.
    """

    seconds: float
    action: Callable[[int, float], bool]


def for_minutes(minutes: float) -> Progress:
    """A training that ends after ``minutes`` of core time, summed over all processes that continued it."""
    return lambda _, seconds: seconds / (60 * minutes)


def be_modest(threads: int | None, niceness: int) -> None:
    """Limit the number of threads (by default all cores) and the priority of this process.

    ``niceness``: 0..19, ignored if the system does not support it. Call it first in a script, because threads that
    start later inherit it.
    """
    if threads:
        torch.set_num_threads(threads)
    if sys.platform != "win32":
        os.nice(max(0, niceness - os.nice(0)))


def flush_denormals() -> None:
    """Flush denormal numbers, of which late gradients have many, and which make a CPU three times slower.

    Call it first in a script, because PyTorch's threads inherit it from this one.
    """
    torch.set_flush_denormal(True)


@contextmanager
def half_precision(device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 if the hardware supports it, with float32 weights.

    On a CPU attention is computed as matrix products, because the backward pass of PyTorch's fused attention is five
    times slower there, a third of a step of the denoiser.
    """
    able = choose_dtype("auto", device) is torch.bfloat16
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=able), attention:
        yield


def cosine(peak: float, warmup: int = 100) -> Rate:
    """Linear warm-up over the first steps, and a cosine to 2 % of the peak over the whole training."""
    return lambda step, share: (
        peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
    )


def held(peak: float, cooldown: float, warmup: int = 100) -> Rate:
    """Linear warm-up, the peak, and over the last share ``cooldown`` of the training a linear fall to zero.

    A training of unknown length can be ended at any time by a new length whose last share begins then; the result is as
    good as with a cosine of that length (arXiv 2405.18392).
    """
    return lambda step, share: peak * min(1.0, (step + 1) / warmup, max(0.0, 1 - share) / max(cooldown, 1e-9))


def balanced_weights(
    records: Sequence[Record], shares: Mapping[str, float] | None = None, emphasis: Mapping[str, float] | None = None
) -> np.ndarray:
    """Sampling probabilities (N,) by the square root of each caption's frequency; 0 for held-out pictures.

    ``shares``: the share of each style; by default it follows from the captions. ``emphasis``: factors by which
    captions with certain words are drawn more often than others of their style.
    """
    counts = Counter(record.caption for record in records)
    weights = np.array([0.0 if record.held_out else counts[record.caption] ** -0.5 for record in records])
    for words, times in (emphasis or {}).items():
        weights[[words in record.caption for record in records]] *= times
    for style, share in (shares or {}).items():
        of_style = np.array([record.style == style for record in records])
        weights[of_style] *= share / weights[of_style].sum()
    return np.asarray(weights / weights.sum())


def train(
    path: Path,
    progress: Progress,
    rate: Rate,
    state: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    step_fn: Callable[[int, float], Losses],
    chores: Sequence[Chore] = (),
) -> None:
    """Run ``step_fn(step, share) -> losses`` until ``progress`` is 1, from the checkpoint ``path`` if there is one.

    ``state`` maps names to objects with ``state_dict``/``load_state_dict``; they are saved with the optimizer.
    ``step_fn`` computes gradients; the optimizer's step is made here. Mean losses are written to ``*.csv`` next to
    ``path``. The training pauses while there is a file ``pause`` next to it; SIGTERM and SIGINT end it with a
    checkpoint. Time is processor time of all threads, so the load of the machine does not affect the number of steps.
    Raises ``SystemExit`` if another process trains at the same ``path``, or all checkpoints are damaged.
    """
    saved = {**state, "optimizer": optimizer}
    with locked(path.with_suffix(".lock")), told_to_stop() as stop:
        step, seconds = restore(path, saved)
        log, means, began = Log(path.with_suffix(".csv"), step), Means(), time.process_time() - seconds
        due = Due(chores, None if step == 0 else seconds)

        def save() -> None:
            states = {name: item.state_dict() for name, item in saved.items()}
            save_checkpoint(path, {"step": step, "seconds": seconds} | states)

        ended = due.done(step, seconds)
        while (share := progress(step, seconds)) < 1 and not ended and not stop.is_set():
            for group in optimizer.param_groups:
                group["lr"] = rate(step, share)
            optimizer.zero_grad()
            means.add(step_fn(step, share))
            optimizer.step()
            step, seconds = step + 1, time.process_time() - began
            if step % LOG_EVERY == 0:
                log.append({"step": step, "seconds": round(seconds)} | means.taken())
            ended = due.done(step, seconds)
            pause = path.with_name("pause")
            if step % SAVE_EVERY == 0 or pause.exists():
                save()
                wait_while(pause, stop)
        save()
        if progress(step, seconds) >= 1:
            due.done(step, seconds, every=True)


class Due:
    """Chores, and the time of their last calls; ``seconds``: the time of a continued training, otherwise ``None``."""

    def __init__(self, chores: Sequence[Chore], seconds: float | None) -> None:
        self._chores = chores
        self._times = [-1 if seconds is None else seconds // chore.seconds for chore in chores]

    def done(self, step: int, seconds: float, every: bool = False) -> bool:
        """Call the chores that are due, or all with ``every``. Returns whether one of them ends the training."""
        ended = False
        for i, chore in enumerate(self._chores):
            if (times := seconds // chore.seconds) > self._times[i] or every:
                self._times[i] = times
                ended |= chore.action(step, seconds)
        return ended


def restore(path: Path, saved: Mapping[str, Any]) -> tuple[int, float]:
    """Load the checkpoint, if there is one. Returns its steps and seconds."""
    if not has_checkpoint(path):
        return 0, 0.0
    checkpoint = load_checkpoint(path)
    for name, item in saved.items():
        item.load_state_dict(checkpoint[name])
    return checkpoint["step"], checkpoint["seconds"]


def wait_while(pause: Path, stop: Event) -> None:
    """Wait until the file is removed, or the process is to end."""
    if pause.exists():
        print(f"paused while {pause} is there", flush=True)
    while pause.exists() and not stop.wait(1):
        pass


@contextmanager
def told_to_stop() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set instead of ending the process."""
    stop = Event()
    usual = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


class Means:
    """The mean of each loss over the steps that had it."""

    def __init__(self) -> None:
        self._sums, self._counts = Counter[str](), Counter[str]()

    def add(self, losses: Losses) -> None:
        self._sums.update(losses)
        self._counts.update(losses.keys())

    def taken(self) -> Losses:
        """The means since the last call."""
        means = {name: round(self._sums[name] / count, 5) for name, count in self._counts.items()}
        self._sums.clear()
        self._counts.clear()
        return means
