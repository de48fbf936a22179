"""Timing of a model's parts, eager and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from statistics import median

import torch

from pixelsmith import Compute
from pixelsmith.config.compute import DtypeName
from pixelsmith.families import Family
from training.figures import Figure, least_at_most
from training.study import Study

REPEATS = 5


def in_each_way(
    study: Study, name: str, work_of: Callable[[Family], Callable[[], object]], unit: float, most: float
) -> list[Figure]:
    """How long ``work_of`` a model takes, ``unit`` to the second, in bfloat16 and float32, as it is and compiled.

    The target ``most`` is for bfloat16 in whichever way is faster.
    """
    dtypes: tuple[DtypeName, ...] = ("bfloat16", "float32")
    figures = []
    for dtype, compiled in product(dtypes, (False, True)):
        # Graphs of the other dtype count towards PyTorch's limit, beyond which blocks would run uncompiled.
        torch.compiler.reset()
        seconds = _timed(work_of(study.load(compute=Compute(dtype=dtype, compile=compiled))))
        way = "compiled" if compiled else "as it is"
        note = f"{dtype}, {torch.get_num_threads()} threads, median of {REPEATS}, {way}"
        figures.append(Figure(name, unit * seconds, note=note))
    return [*least_at_most(figures[:2], most), *figures[2:]]


def _timed(work: Callable[[], object]) -> float:
    """The median seconds of some runs, after a warm-up."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)
