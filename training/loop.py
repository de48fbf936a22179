"""What every training script shares: a resumable checkpoint, a loss log, a learning rate, a balanced draw."""

from __future__ import annotations

import csv
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pixelsmith.families.load import choose_dtype
from training.data import Record

LOG_EVERY = 50
SAVE_EVERY = 250


Losses = dict[str, float]
Progress = Callable[[int, float], float]
"""(steps done, seconds trained) -> the share of the training that is done; it ends at 1."""


def for_minutes(minutes: float) -> Progress:
    """A training that ends after so many minutes, of all processes that went on with it together."""
    return lambda _, seconds: seconds / (60 * minutes)


def flush_denormals() -> None:
    """Gradients of a network that has learnt are full of denormal numbers, which make a CPU three times slower.

    For the first line of a script: the threads that torch starts take it over from this one.
    """
    torch.set_flush_denormal(True)


@contextmanager
def half_precision(device: torch.device) -> Iterator[None]:
    """Compute in bfloat16 where the hardware does, weights stay float32.

    On a CPU attention is done as matrix products: the backward pass of torch's fused one is five times slower there, a
    third of a step of the denoiser.
    """
    able = choose_dtype("auto", device) is torch.bfloat16
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=able), attention:
        yield


def learning_rate(step: int, progress: float, peak: float, warmup: int = 100) -> float:
    """Linear warm-up over the first steps, and a cosine to 2 % of the peak over the whole training."""
    return peak * min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def balanced_weights(
    records: Sequence[Record], shares: Mapping[str, float] | None = None, emphasis: Mapping[str, float] | None = None
) -> np.ndarray:
    """Probabilities (N,) that draw each caption by the square root of its frequency, held-out pictures never.

    ``shares`` fixes how much of the draw each style gets; without it the styles share as their captions do.
    ``emphasis`` is how many times as often captions with such words come, against others of their style.
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
    name: str,
    work: Path,
    progress: Progress,
    peak: float,
    state: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    step_fn: Callable[[int, float], Losses],
) -> None:
    """Run ``step_fn(step, progress) -> losses`` until ``progress`` is 1, going on from ``work/name.pt`` if it exists.

    ``state`` maps names to objects with ``state_dict``/``load_state_dict``; they are saved with the optimizer.
    ``step_fn`` leaves the gradients; the optimizer's step is taken here.
    """
    path, log = work / f"{name}.pt", work / f"{name}.csv"
    saved = {**state, "optimizer": optimizer}
    step, trained_s = 0, 0.0
    if path.exists():
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        step, trained_s = checkpoint["step"], checkpoint["seconds"]
        for key, item in saved.items():
            item.load_state_dict(checkpoint[key])
    # After an interruption the first row of the log is of fewer steps.
    sums, summed_from = Counter[str](), step
    began = time.monotonic() - trained_s
    while (share := progress(step, time.monotonic() - began)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, share, peak)
        optimizer.zero_grad()
        sums.update(step_fn(step, share))
        optimizer.step()
        step += 1
        seconds = time.monotonic() - began
        if step % LOG_EVERY == 0:
            means = {name: round(value / (step - summed_from), 5) for name, value in sums.items()}
            row = {"step": step, "seconds": round(seconds)} | means
            with log.open("a", newline="") as file:
                writer = csv.DictWriter(file, row.keys())
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            sums.clear()
            summed_from = step
        if step % SAVE_EVERY == 0 or progress(step, seconds) >= 1:
            torch.save(
                {"step": step, "seconds": seconds} | {k: v.state_dict() for k, v in saved.items()},
                path.with_suffix(".tmp"),
            )
            path.with_suffix(".tmp").rename(path)
