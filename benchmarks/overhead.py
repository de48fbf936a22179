"""Measure the time per patch outside the model at 16 and at 1,024 times the base area, which must not grow.

    python -m benchmarks.overhead [--repeats 3]

The model is replaced by a function that returns its input; everything else is the actual engine, with keyed noise,
blending and both kinds of merges: held structure with a map, and the paper's fusion and chess mask. The sizes are
measured alternately, several times, and the medians are compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

import torch
from torch import Tensor

from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.engine.bands import low_pass_bands
from pixelsmith.engine.denoise import Denoising, Guide, Patched
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.merging import Fused, Held, Merge
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.patches import Tiling
from pixelsmith.sampling.scattered import COVERAGES
from pixelsmith.sampling.schedule import Level, Schedule

PATCH, CHANNELS, BORDER, BATCH = 32, 8, 2, 4
FACTORS = (4, 32)
"""Canvas sides in patches: 16 and 1,024 times the base area."""
STEPS = {4: 176, 32: 4}
"""Steps for each size, such that both have the same number of patches."""


def identity(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
    return x


@dataclass(frozen=True)
class _Steps:
    """The canvases of the steps in memory, as in a stage."""

    space: MemorySpace

    def open(self, step: int, tiling: Tiling) -> Patched:
        return self.space.open(str(step), tiling, CHANNELS)

    def __contains__(self, step: int) -> bool:
        return str(step) in self.space

    def drop(self, step: int) -> None:
        self.space.drop(str(step))


def seconds_per_patch(factor: int, coverage: str, merge: str) -> float:
    """Mean time per patch of a guided stage, including the creation of patch lists and canvases."""
    size, steps = Size(PATCH * factor, PATCH * factor), STEPS[factor]
    levels = [Level(i / steps * 0.9 + 0.05, (1 - (i / steps * 0.9 + 0.05) ** 2) ** 0.5, 0, 0) for i in range(steps + 1)]
    guide = Array(torch.zeros(CHANNELS, size.height, size.width))
    positions = Array(torch.linspace(0.4, 0.7, size.width).expand(1, size.height, size.width))
    flatness = Array(torch.linspace(0, 1, size.width).expand(1, size.height, size.width))
    weights = (1.0,) * (steps + 1)
    merges: dict[str, Merge] = {
        "hold": Held(weights, positions, low_pass_bands(8.0), 8.0, flatness),
        "phase": Fused(weights),
    }
    job = Denoising(
        identity,
        Schedule(tuple(levels)),
        COVERAGES[coverage](size, Size(PATCH, PATCH), BORDER, 0, 1),
        NoiseField(0, 1, CHANNELS),
        seed=0,
        stage=1,
        guide=Guide(guide, merges[merge]),
    )
    counted = 0

    def count(step: int, done: int, total: int) -> None:
        nonlocal counted
        counted += total if done == total else 0

    began = time.perf_counter()
    job.run(_Steps(MemorySpace()), BATCH, torch.device("cpu"), count)
    return (time.perf_counter() - began) / counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    for coverage, merge in product(COVERAGES, ("hold", "phase")):
        times = {
            factor: [seconds_per_patch(factor, coverage, merge) for _ in range(args.repeats)] for factor in FACTORS
        }
        small, large = (1e3 * median(times[factor]) for factor in FACTORS)
        figures = f"16x: {small:.2f} ms/patch   1024x: {large:.2f} ms/patch   ratio {large / small:.2f}"
        print(f"{coverage:7s} {merge:6s} {figures}")


if __name__ == "__main__":
    main()
