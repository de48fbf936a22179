"""Measure seams: the mean gradient across borders of patches and tiles relative to that without a border.

    python -m benchmarks.seams [--pictures 6] [--size 1024]

Gradients vary far more with the content of a picture than by a seam. So each picture is finished twice from the same
canvas before its last step, with two positions of the last step's grid: at a border of one, the other one shows the
same content without it. (Borders of earlier steps are the same in both, and later steps remove them; none follows the
last step.) Tile borders are compared with the same latents decoded as a whole. The mean over all other lines is printed
too.
"""

from __future__ import annotations

import argparse
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith import Method, Request, Size
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine import stage
from pixelsmith.engine.stage import Cascade
from pixelsmith.evaluate.seams import Borders, gradients
from pixelsmith.events import silent
from pixelsmith.families import find_model, load_family, read_facts
from pixelsmith.families.autoencoders import autoencoder
from pixelsmith.planning.coverages import coverage_of
from pixelsmith.planning.planner import make_plan
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.readable import Readable

PROMPTS = (
    "watercolor map of islands in a turquoise sea",
    "satellite photo of coast, green forest and blue sea",
    "satellite photo of brown rugged mountains",
    "night photo from space of many city lights",
    "watercolor map of land with roads",
    "satellite photo of sandy desert plains",
)
TILE_SIDE = 64
"""Smaller than usual, so that there are more borders."""


def cuts(borders: Borders, axis: int) -> set[int]:
    """Latent positions on one axis before which a border lies."""
    mask = borders.across if axis else borders.down
    return set((np.flatnonzero(mask.any(1 - axis)) + 1).tolist())


def edge_gradients(picture: Readable, borders: Borders, axis: int) -> NDArray[np.float64]:
    """Mean absolute difference across each edge of latents on an axis; entry i is the edge before latent i + 1."""
    shape = (borders.across if axis else borders.down).shape
    return np.asarray(gradients(picture, borders.scale, axis, shape).mean(1 - axis))


class Comparison:
    """Sums gradients on borders, at the same positions without a border, and elsewhere."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []
        self.elsewhere: list[float] = []

    def add(self, borders: set[int], present: NDArray[np.float64], absent: NDArray[np.float64]) -> None:
        self.pairs += [(present[border - 1], absent[border - 1]) for border in borders]
        self.elsewhere += [value for i, value in enumerate(present, start=1) if i not in borders]

    def __str__(self) -> str:
        on, off = np.array(self.pairs).T
        ratio = on.sum() / off.sum()
        error = np.std(on - ratio * off) * len(on) ** 0.5 / off.sum()
        elsewhere = on.mean() / np.mean(self.elsewhere)
        return f"{ratio:.4f} (standard error {error:.4f}, {len(on)} borders; to all other lines {elsewhere:.3f})"


class LastStepElsewhere:
    """A coverage whose last step has another position for each ``variant``."""

    def __init__(self, coverage: Coverage, steps: int, variant: int) -> None:
        self._coverage, self._last, self._variant = coverage, steps - 1, variant

    def patches(self, step: int) -> Tiling:
        return self._coverage.patches(step + 1000 * self._variant if step == self._last else step)

    def count(self, step: int) -> int:
        return len(self.patches(step))


class Unforgetting(MemorySpace):
    """A space that keeps the canvas before the last step, for the second last step."""

    def drop(self, name: str) -> None:
        pass


def finished_twice(request: Request) -> tuple[list[Readable], list[Tiling], Readable]:
    """A picture with two last steps: both pictures, both last grids, and the second picture decoded as a whole."""
    folder = find_model(EMBEDDED)
    facts = read_facts(folder, EMBEDDED)
    family = load_family(folder, facts, request.compute)
    steps, size = request.method.at(1, facts.recommended).steps, request.size
    space = Unforgetting()
    cascade = Cascade.of(request, family, make_plan(request, facts), silent, space)
    base = cascade.base(facts.native_size)
    pictures: list[Readable] = []
    grids: list[Tiling] = []
    for variant in (0, 1):
        coverage = LastStepElsewhere(coverage_of(1, facts.latent_size(size), request, facts), steps, variant)
        for name in (f"stage-1/step-{steps}", "stage-1/picture"):
            MemorySpace.drop(space, name)
        with mock.patch.object(stage, "coverage_of", return_value=coverage):
            pictures.append(cascade.stage(1, base, size).picture)
        grids.append(coverage.patches(steps - 1))
    latents = space.open(f"stage-1/step-{steps}", grids[1], facts.latent_channels)
    whole = family.autoencoder.decode(latents.read(latents.size.window)[None])[0].cpu()
    return pictures, grids, Array(((whole + 1) * 127.5).round().clamp(0, 255))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--border", type=int, default=None)
    args = parser.parse_args()
    autoencoder.LOCAL_SIDE = TILE_SIDE
    facts = read_facts(find_model(EMBEDDED), EMBEDDED)
    patch_borders, tile_borders = Comparison(), Comparison()
    for seed in range(args.pictures):
        size = Size(args.size, args.size)
        request = Request(PROMPTS[seed % len(PROMPTS)], size, seed=seed, method=Method(border=args.border))
        pictures, grids, whole = finished_twice(request)
        tiles = facts.tiling.tiles(grids[0].canvas)
        masks = [Borders.of([tiling], tiling.canvas, facts.latent_scale) for tiling in (*grids, tiles)]
        for axis in (0, 1):
            first, second, untiled = (edge_gradients(picture, masks[0], axis) for picture in (*pictures, whole))
            borders = [cuts(mask, axis) for mask in masks]
            patch_borders.add(borders[0] - borders[1], first, second)
            patch_borders.add(borders[1] - borders[0], second, first)
            tile_borders.add(borders[2], second, untiled)
        print(f"{seed + 1} pictures: patches {patch_borders}; tiles {tile_borders}", flush=True)


if __name__ == "__main__":
    main()
