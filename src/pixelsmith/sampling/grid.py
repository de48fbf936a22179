"""Patches in rows and columns: shifted at every step for a canvas, fixed for an autoencoder's tiles."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.keyed import Purpose, keyed_generator
from pixelsmith.sampling.patches import Patch, PatchWeights, support


@dataclass(frozen=True)
class ShiftedGrid:
    """A grid whose inner lines are shifted at every step, so that no seam stays in one place.

    ``border`` is the width in latents of the band over which neighbours are averaged with linear ramps; 0 is a hard
    cut. On an axis that wraps, all lines are shifted by any distance, and a patch may be longer than the canvas: it
    then reaches over both edges and is averaged with itself.
    """

    canvas: Size
    patch: Size
    border: int
    seed: int
    stage: int
    wrap: Wrap = NO_WRAP

    @property
    def stride(self) -> Size:
        """The largest distance from one patch to the next."""
        return Size(max(1, self.patch.width - self.border), max(1, self.patch.height - self.border))

    def patches(self, step: int) -> Grid:
        shifts = keyed_generator(Purpose.COVERAGE, self.seed, self.stage, step).random(2)
        return Grid(
            self.canvas,
            _shifted(self.wrap.y)(self.canvas.height, self.patch.height, self.border, shifts[0]),
            _shifted(self.wrap.x)(self.canvas.width, self.patch.width, self.border, shifts[1]),
            self.border,
        )

    def count(self, step: int) -> int:
        return len(self.patches(step))


def fixed_grid(canvas: Size, side: int, overlap: int, border: int, wrap: Wrap = NO_WRAP) -> Grid:
    """Tiles of at most ``side`` that overlap by at least ``overlap`` and are averaged over ``border`` in the middle."""
    rows = _Axis.fixed(canvas.height, side, overlap, wrap.y)
    return Grid(canvas, rows, _Axis.fixed(canvas.width, side, overlap, wrap.x), border)


@dataclass(frozen=True)
class TileLayout:
    """How an autoencoder is run tile by tile. All values are in latents.

    - ``side``: of a tile with its context; ``context``: the margin on each side that is computed but not kept.
    - ``blend``: the band over which neighbouring tiles are averaged, at most twice the context; 0 if the network is
      local, so that tiles match exactly.
    """

    side: int
    context: int
    blend: int

    def seeing_more(self, latents: int) -> TileLayout:
        """The layout with ``latents`` more context on each side and tiles that keep the same area."""
        return TileLayout(self.side + 2 * latents, self.context + latents, self.blend)

    @property
    def least(self) -> int:
        """The smallest side of a tile: its context, and at least the blended band."""
        return 2 * self.context + max(self.blend, 4)

    def tiles(self, canvas: Size, wrap: Wrap = NO_WRAP) -> Grid:
        """The tiles of a canvas in latents."""
        return fixed_grid(canvas, self.side, 2 * self.context, self.blend, wrap)


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
    def _down(self) -> list[PatchWeights]:
        """The weights of each row of patches along its height; few numbers for any canvas size."""
        return [self.rows.weights(i, self.border) for i in range(len(self.rows.starts))]

    @cached_property
    def _across(self) -> list[PatchWeights]:
        return [self.columns.weights(i, self.border) for i in range(len(self.columns.starts))]

    def kept(self, index: int) -> Window:
        row, column = divmod(index, len(self.columns.starts))
        top, height = support(self._down[row])
        left, width = support(self._across[column])
        return Window(self.rows.starts[row] + top, self.columns.starts[column] + left, height, width)

    def weights(self, index: int, window: Window) -> PatchWeights:
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
        height, width = (max(support(weights)[1] for weights in axis) for axis in (self._down, self._across))
        return Size(max(1, width), max(1, height))

    @property
    def wrap(self) -> Wrap:
        return Wrap(self.columns.wraps, self.rows.wraps)

    def images(self, window: Window) -> Iterator[Window]:
        top, left = self.rows.starts[0], self.columns.starts[0]
        bottom, right = (axis.starts[-1] + axis.side for axis in (self.rows, self.columns))
        return self.wrap.images(window, self.canvas, Window(top, left, bottom - top, right - left))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back to an equal grid."""
        return {"rows": asdict(self.rows), "columns": asdict(self.columns), "border": self.border}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Grid:
        """Read the values of ``to_dict``. Raises ``KeyError`` or ``TypeError`` for other values."""
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


@dataclass(frozen=True)
class _Axis:
    """The starts of a grid's patches on one axis: the first patch begins at 0, the last one ends at the end.

    ``cut`` in 0..1: where neighbours meet within their overlap, from its start to its end. On an axis that ``wraps``,
    patches may begin anywhere in 0..length and reach over its end, and the last one is a neighbour of the first.
    """

    length: int
    side: int
    starts: list[int]
    cut: float = 0.5
    wraps: bool = False

    @classmethod
    def fixed(cls, length: int, side: int, overlap: int, wraps: bool = False) -> _Axis:
        """The fewest patches of at most ``side``, each as short as possible."""
        if wraps:
            count = math.ceil(length / (side - overlap))
            starts = [i * length // count for i in range(count)]
            return cls(length, math.ceil(length / count) + overlap, starts, wraps=True)
        if length <= side:
            return cls(length, length, [0])
        count = math.ceil((length - overlap) / (side - overlap))
        side = math.ceil((length + (count - 1) * overlap) / count)
        return cls(length, side, [*(i * (side - overlap) for i in range(count - 1)), length - side])

    @classmethod
    def shifted(cls, length: int, side: int, overlap: int, shift: float) -> _Axis:
        """Shift the inner starts and the cuts by ``shift``, a share in 0..1 of the room that they have.

        If that room is less than a third of the stride, one more patch is added, because otherwise the seams would
        hardly move.
        """
        if length <= side:
            return cls(length, length, [0])
        stride = side - overlap
        gaps = math.ceil((length - side) / stride)
        if 3 * (gaps * stride - (length - side)) < stride:
            gaps += 1
        room = gaps * stride - (length - side)
        # The offset shortens the first gap and lengthens the last one, which never exceeds the stride.
        offset = int(shift * (min(room, stride - 1) + 1))
        between = (min(i * stride - offset, length - side) for i in range(1, gaps))
        return cls(length, side, [0, *between, length - side], cut=shift)

    @classmethod
    def rolled(cls, length: int, side: int, overlap: int, shift: float) -> _Axis:
        """For an axis that wraps: the fewest patches, evenly spaced, shifted by ``shift`` in 0..1 of the length."""
        count = math.ceil(length / (side - overlap))
        starts = sorted((int(shift * length) + i * length // count) % length for i in range(count))
        return cls(length, side, starts, cut=shift, wraps=True)

    def weights(self, index: int, border: int) -> PatchWeights:
        """The weights (side,) of a patch: linear ramps of ``border`` around the cut in each overlap.

        The share of "this patch or a later one" rises from 0 to 1 at each overlap; a patch's weight is the difference
        of two such rises, so the weights add up to one whatever the overlaps are.
        """
        return self._rise(index, index, border) - self._rise(index + 1, index, border)

    def _rise(self, patch: int, at: int, border: int) -> PatchWeights:
        """The share of ``patch`` and all later ones at the positions (side,) of the patch ``at``."""
        if not self.wraps and patch in (0, len(self.starts)):
            return np.full(self.side, patch == 0, np.float32)
        left, right = self._start(patch - 1), self._start(patch)
        middle = right + border / 2 + self.cut * (left + self.side - right - border)
        places = self.starts[at] + np.arange(self.side, dtype=np.float32) + 0.5
        rise = (places - middle) / border + 0.5 if border else places > middle
        return np.clip(rise, 0, 1).astype(np.float32)

    def _start(self, patch: int) -> int:
        """The start of a patch. On an axis that wraps, patch -1 is the last one, a length before its start."""
        rounds, patch = divmod(patch, len(self.starts))
        return self.starts[patch] + rounds * self.length

    def between(self, start: int, end: int) -> range:
        """The patches that overlap the interval from ``start`` to ``end``."""
        return range(bisect_right(self.starts, start - self.side), bisect_left(self.starts, end))

    def scaled(self, factor: int) -> _Axis:
        starts = [start * factor for start in self.starts]
        return _Axis(self.length * factor, self.side * factor, starts, self.cut, self.wraps)


def _shifted(wraps: bool) -> Callable[[int, int, int, float], _Axis]:
    """The function that creates the axis of a step."""
    return _Axis.rolled if wraps else _Axis.shifted
