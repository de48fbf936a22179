"""Coverage: which patches move the canvas in a step, and how much each counts where they meet.

Every latent pixel moves once per step (paper, section 3.2, after DiffInfinite). Here all patches of a step read the
canvas from before the step, and what they write is a weighted sum whose weights add up to one at every pixel: so the
patches of a step do not depend on each other, nor on their order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.keyed import Purpose, keyed_generator

Weights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Patch:
    """A window that the network denoises in one call and ``weights`` (h, w) in 0..1 of its result in the canvas."""

    window: Window
    weights: Weights


@runtime_checkable
class Tiling(Protocol):
    """Patches that cover a canvas, made when they are asked for: a canvas of any size takes no memory.

    At every pixel of the canvas the weights of the patches over it add up to 1.
    """

    @property
    def canvas(self) -> Size: ...

    @property
    def largest(self) -> Size:
        """What holds the part with weights above 0 of any patch."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Patch: ...

    def __iter__(self) -> Iterator[Patch]: ...

    def kept(self, index: int) -> Window:
        """The part of a patch's window with weights above 0; it may be empty."""
        ...

    def weights(self, index: int, window: Window) -> Weights:
        """The weights (h, w) of a patch in a window inside its own."""
        ...

    def touching(self, window: Window) -> Iterable[int]:
        """The patches that overlap this window, in rising order."""
        ...


@runtime_checkable
class Coverage(Protocol):
    """Patches for each step of a stage."""

    def patches(self, step: int) -> Tiling:
        """The patches of step ``step``."""
        ...

    def count(self, step: int) -> int:
        """How many patches that step has."""
        ...


def fewest_patches(canvas: Size, patch: Size) -> int:
    """The number of patches that tile the canvas without overlap."""
    return math.ceil(canvas.width / patch.width) * math.ceil(canvas.height / patch.height)


def dilation(canvas: Size, patch: Size) -> int:
    """The smallest s, at least 1, for which every s-th latent of the canvas on both axes is no more than a patch."""
    return max(math.ceil(canvas.width / patch.width), math.ceil(canvas.height / patch.height))


@dataclass(frozen=True)
class ShiftedGrid:
    """A grid whose inner lines are shifted at every step, so that no seam stays in one place.

    ``border`` is the width in latents of the band over which neighbours are averaged with linear ramps; 0 is a hard
    cut.
    """

    canvas: Size
    patch: Size
    border: int
    seed: int
    stage: int

    @property
    def stride(self) -> Size:
        """From one patch to the next, where they lie as far apart as they may."""
        return Size(max(1, self.patch.width - self.border), max(1, self.patch.height - self.border))

    def patches(self, step: int) -> Grid:
        shifts = keyed_generator(Purpose.COVERAGE, self.seed, self.stage, step).random(2)
        return Grid(
            self.canvas,
            _Axis.shifted(self.canvas.height, self.patch.height, self.border, shifts[0]),
            _Axis.shifted(self.canvas.width, self.patch.width, self.border, shifts[1]),
            self.border,
        )

    def count(self, step: int) -> int:
        return len(self.patches(step))


def fixed_grid(canvas: Size, side: int, overlap: int, border: int) -> Grid:
    """Tiles of at most ``side`` that overlap by at least ``overlap`` and are averaged over ``border`` in the middle."""
    rows, columns = (_Axis.fixed(length, side, overlap) for length in (canvas.height, canvas.width))
    return Grid(canvas, rows, columns, border)


@dataclass(frozen=True)
class TileLayout:
    """How an autoencoder is run tile by tile, all in latents.

    - ``side``: a tile with its context; ``context``: what a tile sees on each side beyond what is kept of it.
    - ``blend``: the band over which neighbouring tiles are averaged, at most twice the context; 0 where the network
      is local, so that tiles meet exactly.
    """

    side: int
    context: int
    blend: int

    def tiles(self, canvas: Size) -> Grid:
        """The tiles of a canvas in latents."""
        return fixed_grid(canvas, self.side, 2 * self.context, self.blend)


@dataclass(frozen=True)
class Grid(Sequence[Patch]):
    """Patches in rows and columns, row by row; ``border`` as in ``ShiftedGrid``."""

    canvas: Size
    rows: _Axis
    columns: _Axis
    border: int

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    @overload
    def __getitem__(self, index: int) -> Patch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Patch]: ...
    def __getitem__(self, index: int | slice) -> Patch | list[Patch]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, column = divmod(index, len(self.columns.starts))
        window = Window(
            self.rows.starts[row], self.columns.starts[column], len(self._down[row]), len(self._across[column])
        )
        return Patch(window, self._down[row][:, None] * self._across[column])

    @cached_property
    def _down(self) -> list[Weights]:
        """The weights of each row of patches along its height: few numbers, whatever the canvas."""
        return [self.rows.weights(i, self.border) for i in range(len(self.rows.starts))]

    @cached_property
    def _across(self) -> list[Weights]:
        return [self.columns.weights(i, self.border) for i in range(len(self.columns.starts))]

    def kept(self, index: int) -> Window:
        row, column = divmod(index, len(self.columns.starts))
        top, height = _support(self._down[row])
        left, width = _support(self._across[column])
        return Window(self.rows.starts[row] + top, self.columns.starts[column] + left, height, width)

    def weights(self, index: int, window: Window) -> Weights:
        row, column = divmod(index, len(self.columns.starts))
        top, left = window.top - self.rows.starts[row], window.left - self.columns.starts[column]
        down = self._down[row][top : top + window.height]
        return down[:, None] * self._across[column][left : left + window.width]

    def touching(self, window: Window) -> Iterator[int]:
        across = self.columns.between(window.left, window.right)
        for row in self.rows.between(window.top, window.bottom):
            yield from (row * len(self.columns.starts) + column for column in across)

    @property
    def largest(self) -> Size:
        height, width = (max(_support(weights)[1] for weights in axis) for axis in (self._down, self._across))
        return Size(max(1, width), max(1, height))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back to an equal grid."""
        return {"rows": asdict(self.rows), "columns": asdict(self.columns), "border": self.border}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """Read what ``to_dict`` wrote. Raises ``KeyError`` or ``TypeError`` where it is something else."""
        rows, columns = _Axis(**values["rows"]), _Axis(**values["columns"])
        return cls(Size(columns.length, rows.length), rows, columns, values["border"])

    def scaled(self, factor: int) -> Grid:
        """The same grid at ``factor`` times the resolution: from latents to pixels."""
        return Grid(
            Size(self.canvas.width * factor, self.canvas.height * factor),
            self.rows.scaled(factor),
            self.columns.scaled(factor),
            self.border * factor,
        )


def _support(weights: Weights) -> tuple[int, int]:
    """Where weights along an axis are above 0, and for how long."""
    there = np.flatnonzero(weights)
    return (int(there[0]), int(there[-1] - there[0]) + 1) if len(there) else (0, 0)


@dataclass(frozen=True)
class _Axis:
    """Where the patches of a grid begin on one axis: the first at 0, the last at the end.

    ``cut`` in 0..1 is where neighbours meet inside their overlap, from its beginning to its end.
    """

    length: int
    side: int
    starts: list[int]
    cut: float = 0.5

    @classmethod
    def fixed(cls, length: int, side: int, overlap: int) -> _Axis:
        """As few as a patch of at most ``side`` allows, and those no longer than they need to be."""
        if length <= side:
            return cls(length, length, [0])
        count = math.ceil((length - overlap) / (side - overlap))
        side = math.ceil((length + (count - 1) * overlap) / count)
        return cls(length, side, [*(i * (side - overlap) for i in range(count - 1)), length - side])

    @classmethod
    def shifted(cls, length: int, side: int, overlap: int, shift: float) -> _Axis:
        """Move the starts between the two ends together, and the cuts, by ``shift`` in 0..1 of the room that they have.

        Where there is hardly any room (less than a third of the stride) one more patch makes some, or the seams would
        stay where they are.
        """
        if length <= side:
            return cls(length, length, [0])
        stride = side - overlap
        gaps = math.ceil((length - side) / stride)
        if 3 * (gaps * stride - (length - side)) < stride:
            gaps += 1
        room = gaps * stride - (length - side)
        # What the offset takes from the first gap, the last one gets: no gap exceeds the stride.
        offset = int(shift * (min(room, stride - 1) + 1))
        between = (min(i * stride - offset, length - side) for i in range(1, gaps))
        return cls(length, side, [0, *between, length - side], cut=shift)

    def weights(self, index: int, border: int) -> Weights:
        """The weights (side,) of a patch: linear ramps of ``border`` around the cut in each overlap.

        The share of "this patch or a later one" rises from 0 to 1 at each overlap; a patch's weight is the difference
        of two such rises, so the weights add up to one whatever the overlaps are.
        """
        return self._rise(index, index, border) - self._rise(index + 1, index, border)

    def _rise(self, patch: int, at: int, border: int) -> Weights:
        """The share of ``patch`` and all later ones at the places (side,) of the patch ``at``."""
        if patch in (0, len(self.starts)):
            return np.full(self.side, patch == 0, np.float32)
        left, right = self.starts[patch - 1 : patch + 1]
        middle = right + border / 2 + self.cut * (left + self.side - right - border)
        places = self.starts[at] + np.arange(self.side, dtype=np.float32) + 0.5
        rise = (places - middle) / border + 0.5 if border else places > middle
        return np.clip(rise, 0, 1).astype(np.float32)

    def between(self, start: int, end: int) -> range:
        """The patches that reach into the places from ``start`` to ``end``."""
        return range(bisect_right(self.starts, start - self.side), bisect_left(self.starts, end))

    def scaled(self, factor: int) -> _Axis:
        return _Axis(self.length * factor, self.side * factor, [start * factor for start in self.starts], self.cut)


@dataclass(frozen=True)
class RandomCoverage:
    """Patches around random pixels that have not moved yet, until all have (paper, section 3.2).

    It takes about 2.2 times the fewest patches. ``border`` is the width in latents of the band around a patch's new
    pixels over which it gives way to the earlier patches, along linear ramps.
    """

    canvas: Size
    patch: Size
    border: int
    seed: int
    stage: int

    @property
    def stride(self) -> Size:
        """Patches that do not overlap lie this far apart, if not farther."""
        return self.patch

    def patches(self, step: int) -> Scattered:
        left, found = np.ones((self.canvas.height, self.canvas.width), np.float32), []
        # A patch takes its share of what the patches after it leave; of its new pixels it takes all that is left.
        for window, new in reversed(self.windows(step)):
            weights = left[window.slices] * _feathered(new, self.border)
            left[window.slices] -= weights
            found.append(Patch(window, weights))
        # They were chosen at random, but are moved in the order of their places: neighbours read the same pieces.
        found.sort(key=lambda patch: (patch.window.top // (2 * self.patch.height), patch.window.left))
        return Scattered(self.canvas, found)

    def count(self, step: int) -> int:
        return sum(1 for _ in self.windows(step))

    def windows(self, step: int) -> list[tuple[Window, NDArray[np.bool_]]]:
        """Each window with the pixels that no window before it has moved, in the order in which they are drawn.

        Pixels are tried in a random order drawn once, not listed anew for every patch: the work per patch does not
        depend on the canvas.
        """
        height, width = min(self.patch.height, self.canvas.height), min(self.patch.width, self.canvas.width)
        moved = np.zeros((self.canvas.height, self.canvas.width), bool)
        order = keyed_generator(Purpose.COVERAGE, self.seed, self.stage, step).permutation(moved.size)
        found = []
        for pixel in _unmoved(order, moved):
            row, column = divmod(pixel, self.canvas.width)
            top = min(max(row - height // 2, 0), self.canvas.height - height)
            left = min(max(column - width // 2, 0), self.canvas.width - width)
            window = Window(top, left, height, width)
            found.append((window, ~moved[window.slices]))
            moved[window.slices] = True
        return found


def _unmoved(order: NDArray[np.int64], moved: NDArray[np.bool_]) -> Iterator[int]:
    """The pixels in this order that have not moved when their turn comes; most are passed over in bulk."""
    for chunk in np.array_split(order, max(1, len(order) // 1024)):
        for pixel in chunk[~moved.ravel()[chunk]].tolist():
            if not moved.ravel()[pixel]:
                yield pixel


def _feathered(mask: NDArray[np.bool_], border: int) -> Weights:
    """1 on a mask (h, w), falling to 0 over ``border`` pixels around it: a product of linear ramps, as a grid's are."""
    weights = mask.astype(np.float32)
    if border == 0:
        return weights
    away = np.abs(np.arange(-border, border + 1, dtype=np.float32))
    ramp = np.clip(1 - (away - 0.5) / border, 0, 1)
    for axis in (0, 1):
        padding = [(border, border) if i == axis else (0, 0) for i in (0, 1)]
        spans = np.lib.stride_tricks.sliding_window_view(np.pad(weights, padding), 2 * border + 1, axis)
        weights = np.asarray((spans * ramp).max(axis=-1))
    return weights


def _kept(patch: Patch) -> Window:
    """The smallest window outside of which a patch does not count."""
    (top, height), (left, width) = (_support(patch.weights.max(axis)) for axis in (1, 0))
    return Window(patch.window.top + top, patch.window.left + left, height, width)


class Scattered(list[Patch]):
    """Patches at any places, all of one size, found by the cells of a coarse grid that they touch."""

    def __init__(self, canvas: Size, patches: Iterable[Patch]) -> None:
        super().__init__(patches)
        self.canvas = canvas
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

    def weights(self, index: int, window: Window) -> Weights:
        return self[index].weights[window.relative_to(self[index].window).slices]

    def touching(self, window: Window) -> list[int]:
        near = {index for cell in self._cells_of(window) for index in self._cells.get(cell, ())}
        return sorted(index for index in near if self[index].window.overlaps(window))

    def _cells_of(self, window: Window) -> Iterator[tuple[int, int]]:
        rows = range(window.top // self._side, (window.bottom - 1) // self._side + 1)
        columns = range(window.left // self._side, (window.right - 1) // self._side + 1)
        return product(rows, columns)


COVERAGES: dict[str, type[ShiftedGrid] | type[RandomCoverage]] = {"grid": ShiftedGrid, "random": RandomCoverage}
