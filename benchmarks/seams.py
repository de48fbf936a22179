"""Are there seams? The mean gradient across patch and tile borders against the mean gradient elsewhere.

    python -m benchmarks.seams [--pictures 6] [--size 1024]

Patch borders are those of the last step, where a seam would have had no step left to heal. The decoder works in cells
of 8x8 pixels, and the gradient across the edge of a cell need not be that inside one; so a patch border, which always
lies on such an edge, is compared with other edges of cells near by, along both axes. Tile borders are those of the
decoder's tiles, forced to be small enough that a picture has several.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pixelsmith import Compute, Method, Request, Size, generate
from pixelsmith.families import autoencoder, find_model, read_facts
from pixelsmith.families.protocol import Tiling
from pixelsmith.plan import coverage_of
from pixelsmith.request import EMBEDDED
from pixelsmith.sampling.patches import Patch, fixed_grid

PROMPTS = (
    "watercolor map of islands in a turquoise sea",
    "satellite photo of coast, green forest and blue sea",
    "satellite photo of brown rugged mountains",
    "night photo from space of many city lights",
    "watercolor map of land with roads",
    "satellite photo of sandy desert plains",
)
NEAR = (2, 3, 4)
"""Distances in cells at which the gradient elsewhere is taken; nearer ones lie in the averaged band itself."""
TILING = Tiling(side=64, context=12, blend=0)


def cuts(patches: Iterable[Patch], length: int, axis: int) -> set[int]:
    """Latent positions on one axis where a later patch begins to count more than the one before it."""
    found = set()
    for patch in patches:
        weights = patch.weights.max(axis=1 - axis)
        start = (patch.window.top, patch.window.left)[axis]
        if start > 0:
            found.add(start + int(np.argmax(weights >= 0.5 * weights.max())))
    return {cut for cut in found if 0 < cut < length}


def edge_gradients(pixels: NDArray[np.uint8], scale: int, axis: int) -> NDArray[np.float64]:
    """Mean absolute difference across each edge of cells on an axis; entry i is the edge before cell i + 1."""
    values = np.moveaxis(pixels.astype(np.float64), axis, 0)
    return np.asarray(np.abs(values[scale::scale] - values[scale - 1 : -1 : scale]).mean(axis=(1, 2)))


class Comparison:
    """Sums gradients on borders and on the edges near by: what a picture shows varies too much from place to place."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, float]] = []

    def add(self, gradients: NDArray[np.float64], borders: set[int]) -> None:
        for border in borders:
            near = [border + side * distance for side in (-1, 1) for distance in NEAR]
            others = [gradients[i - 1] for i in near if 0 < i <= len(gradients) and i not in borders]
            self.pairs.append((float(gradients[border - 1]), float(np.mean(others))))

    def __str__(self) -> str:
        on, off = np.array(self.pairs).T
        ratio = on.sum() / off.sum()
        error = np.std(on - ratio * off) * len(on) ** 0.5 / off.sum()
        return f"{ratio:.4f} (standard error {error:.4f}, {len(on)} borders)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--border", type=int, default=None)
    args = parser.parse_args()
    facts = read_facts(find_model(EMBEDDED), EMBEDDED)
    autoencoder.LOCAL = TILING
    patch_borders, tile_borders = Comparison(), Comparison()
    for seed in range(args.pictures):
        size = Size(args.size, args.size)
        method = Method(border=args.border)
        request = Request(PROMPTS[seed % len(PROMPTS)], size, seed=seed, method=method, compute=Compute())
        result = generate(request)
        canvas = facts.latent_size(size)
        patches = coverage_of(len(result.plan.stages), canvas, request, facts).patches(method.steps - 1)
        tiles = fixed_grid(canvas, TILING.side, 2 * TILING.context, 0)
        for axis, length in enumerate((canvas.height, canvas.width)):
            gradients = edge_gradients(result.pixels, facts.latent_scale, axis)
            patch_borders.add(gradients, cuts(patches, length, axis))
            tile_borders.add(gradients, cuts(tiles, length, axis))
        print(f"{seed + 1} pictures: patches {patch_borders}; tiles {tile_borders}", flush=True)


if __name__ == "__main__":
    main()
