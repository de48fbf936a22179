"""Patches at random positions, as in the paper (section 3.2), and the coverages by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.keyed import Purpose, keyed_generator
from pixelsmith.sampling.patches import Patch, PatchWeights, support


@dataclass(frozen=True)
class RandomCoverage:
    """Patches around random pixels that have not moved yet, until all have (paper, section 3.2).

    It takes about 2.2 times as many patches as a grid without overlap. ``border`` is the width in latents of the band
    around a patch's new pixels over which it is blended into the earlier patches with linear ramps. On the axes that
    ``wrap`` patches may reach over the edge.
    """

    canvas: Size
    patch: Size
    border: int
    seed: int
    stage: int
    wrap: Wrap = NO_WRAP

    @property
    def stride(self) -> Size:
        """The smallest distance between patches that do not overlap."""
        return self.patch

    def patches(self, step: int) -> Scattered:
        left, found = np.ones((self.canvas.height, self.canvas.width), np.float32), []
        # A patch gets its share of the weight that later patches leave, and all of it at its new pixels.
        for window, new in reversed(self.windows(step)):
            at = self._at(window)
            weights = left[at] * _feathered(new, self.border)
            left[at] -= weights
            found.append(Patch(window, weights))
        # They are drawn at random but processed by position, because neighbours read the same stored patches.
        found.sort(key=lambda patch: (patch.window.top // (2 * self.patch.height), patch.window.left))
        return Scattered(self.canvas, found, self.wrap)

    def count(self, step: int) -> int:
        return sum(1 for _ in self.windows(step))

    def windows(self, step: int) -> list[tuple[Window, NDArray[np.bool_]]]:
        """The windows in the order in which they are drawn, each with the pixels that no earlier window has moved.

        The random order of pixels is drawn once, not for each patch, so the work per patch does not depend on the
        canvas.
        """
        height, width = min(self.patch.height, self.canvas.height), min(self.patch.width, self.canvas.width)
        moved = np.zeros((self.canvas.height, self.canvas.width), bool)
        order = keyed_generator(Purpose.COVERAGE, self.seed, self.stage, step).permutation(moved.size)
        found = []
        for pixel in _unmoved(order, moved):
            row, column = divmod(pixel, self.canvas.width)
            top = _start(row - height // 2, height, self.canvas.height, self.wrap.y)
            left = _start(column - width // 2, width, self.canvas.width, self.wrap.x)
            window = Window(top, left, height, width)
            at = self._at(window)
            found.append((window, ~moved[at]))
            moved[at] = True
        return found

    def _at(self, window: Window) -> Any:
        """What a window is of an array of the canvas, by the index of that; slices are fastest."""
        if window.bottom <= self.canvas.height and window.right <= self.canvas.width:
            return window.slices
        rows = np.arange(window.top, window.bottom) % self.canvas.height
        return np.ix_(rows, np.arange(window.left, window.right) % self.canvas.width)


def _start(start: int, side: int, length: int, wraps: bool) -> int:
    """Where a patch starts on an axis: within its length where it wraps, else so that it ends inside."""
    return start % length if wraps else min(max(start, 0), length - side)


def _unmoved(order: NDArray[np.int64], moved: NDArray[np.bool_]) -> Iterator[int]:
    """The pixels in this order that are still unmoved when they are reached; moved ones are skipped in bulk."""
    for chunk in np.array_split(order, max(1, len(order) // 1024)):
        for pixel in chunk[~moved.ravel()[chunk]].tolist():
            if not moved.ravel()[pixel]:
                yield pixel


def _feathered(mask: NDArray[np.bool_], border: int) -> PatchWeights:
    """1 on a mask (h, w), falling to 0 over ``border`` pixels around it, as a product of linear ramps as in a grid."""
    weights = mask.astype(np.float32)
    if border == 0 or mask.all():
        return weights
    away = np.abs(np.arange(-border, border + 1, dtype=np.float32))
    ramp = np.clip(1 - (away - 0.5) / border, 0, 1)
    for axis in (0, 1):
        length = weights.shape[axis]
        padded = np.pad(weights, [(border, border) if i == axis else (0, 0) for i in (0, 1)])
        weights = np.zeros_like(weights)
        for shift, share in enumerate(ramp):
            moved = padded[shift : shift + length] if axis == 0 else padded[:, shift : shift + length]
            np.maximum(weights, moved * share, out=weights)
    return weights


def _kept(patch: Patch) -> Window:
    """The smallest window that contains all weights above 0 of a patch."""
    (top, height), (left, width) = (support(patch.weights.max(axis)) for axis in (1, 0))
    return Window(patch.window.top + top, patch.window.left + left, height, width)


class Scattered(list[Patch]):
    """Patches of one size at any positions, indexed by the cells of a coarse grid."""

    def __init__(self, canvas: Size, patches: Iterable[Patch], wrap: Wrap = NO_WRAP) -> None:
        super().__init__(patches)
        self.canvas, self._wrap = canvas, wrap
        self._side = max(max(patch.window.height, patch.window.width) for patch in self)
        self._kept = [_kept(patch) for patch in self]
        self._cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, patch in enumerate(self):
            for cell in self._cells_of(patch.window):
                self._cells[cell].append(index)

    @property
    def largest(self) -> Size:
        return Size(self[0].window.width, self[0].window.height)

    def kept(self, index: int) -> Window:
        return self._kept[index]

    def weights(self, index: int, window: Window) -> PatchWeights:
        return self[index].weights[window.relative_to(self[index].window).slices]

    def touching(self, window: Window) -> list[int]:
        near = {index for cell in self._cells_of(window) for index in self._cells.get(cell, ())}
        return sorted(index for index in near if self[index].window.overlaps(window))

    def images(self, window: Window) -> Iterator[Window]:
        most = self.largest
        reach = Window(0, 0, self.canvas.height + most.height, self.canvas.width + most.width)
        return self._wrap.images(window, self.canvas, reach)

    def _cells_of(self, window: Window) -> Iterator[tuple[int, int]]:
        rows = range(window.top // self._side, (window.bottom - 1) // self._side + 1)
        columns = range(window.left // self._side, (window.right - 1) // self._side + 1)
        return product(rows, columns)


COVERAGES: dict[str, type[ShiftedGrid] | type[RandomCoverage]] = {"grid": ShiftedGrid, "random": RandomCoverage}
