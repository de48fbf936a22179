"""A canvas that is stored as its patches: reading a window averages the patches that overlap there.

Nothing is accumulated in place, so a patch that is computed twice, in another order or by another worker leaves the
same bytes, and a run can be interrupted after any patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pixelsmith.canvas.slots import Slots, Values
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.patches import Tiling


class Mosaic:
    """An array (channels, h, w) of float32 latents or uint8 pixels, filled patch by patch.

    ``size``: the visible part of the tiling's canvas, from its top left corner; by default all of it.
    """

    def __init__(
        self, tiling: Tiling, slots: Slots, channels: int, dtype: torch.dtype, size: Size | None = None
    ) -> None:
        self.tiling = tiling
        self.size = size or tiling.canvas
        self._slots, self._channels, self._dtype = slots, channels, dtype

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window, which may reach over the edges on axes that wrap.

        All patches with a weight in it must exist.
        """
        shape = (self._channels, window.height, window.width)
        values = torch.zeros(shape, dtype=self._dtype).numpy()
        mean: Values | None = None
        for place, weights, piece in self._pieces(window):
            if weights.min() == 1:
                values[(..., *place.slices)] = piece
            else:
                mean = np.zeros(shape, np.float32) if mean is None else mean
                mean[(..., *place.slices)] += weights * piece
        whole = torch.from_numpy(values)
        # A value comes either from a single patch or from a weighted mean, never from both.
        return whole if mean is None else whole + _as_kept(torch.from_numpy(mean), self._dtype)

    def put(self, index: int, values: Tensor) -> None:
        """Store patch ``index``: values (c, h, w) of its whole window; for bytes, rounded and clamped to 0..255.

        Raises ``OSError`` if the disk is full.
        """
        kept = self.tiling.kept(index).relative_to(self.tiling[index].window)
        (stored,) = self.stored(values[(..., *kept.slices)])
        self._slots.write(index, stored.numpy())

    @property
    def stored(self) -> Stored:
        """Converts patches (..., c, h, w) to their stored form, on their device."""
        return Stored((self._dtype,))

    def keep(self, index: int, stored: Sequence[Tensor]) -> None:
        """Store a patch that ``stored`` has converted."""
        (values,) = stored
        self.put(index, values)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[range]:
        """The groups of at most ``group`` patches with any missing patch.

        ``even``: whether groups are of nearly equal size, instead of ``group`` patches in all but the last. Groups
        always begin at the same patches, so that an interrupted run has the same batches, and thus the same rounding.
        """
        for indices in groups_of(len(self.tiling), group, even):
            if not all(index in self._slots for index in indices):
                yield indices

    @property
    def complete(self) -> bool:
        return next(self.missing(), None) is None

    def __contains__(self, index: int) -> bool:
        """Whether a patch exists."""
        return index in self._slots

    def has(self, window: Window) -> bool:
        """Whether every patch with a weight in a window exists."""
        return all(index in self._slots for index in counting(self.tiling, window))

    def sync(self) -> None:
        """Flush all stored patches, so that they survive a power loss if the storage can."""
        self._slots.sync()

    def _pieces(self, window: Window) -> Iterator[tuple[Window, np.ndarray, Values]]:
        """The contribution of each patch to a window: the part of the window, the weights, the values."""
        for index, seen in _counting(self.tiling, window):
            kept = self.tiling.kept(index)
            if index not in self._slots:
                raise LookupError(f"patch {index} of the mosaic is missing")
            shape = (self._channels, kept.height, kept.width)
            values = self._slots.read(index)[: math.prod(shape)].reshape(shape)
            shared = kept.common(seen)
            weights = self.tiling.weights(index, shared)
            yield shared.relative_to(seen), weights, values[(..., *shared.relative_to(kept).slices)]


def counting(tiling: Tiling, window: Window) -> list[int]:
    """The patches with a weight in a window, in ascending order."""
    return sorted({index for index, _ in _counting(tiling, window)})


def _counting(tiling: Tiling, window: Window) -> Iterator[tuple[int, Window]]:
    """The same, each with the repetition of the window that it overlaps."""
    for seen in tiling.images(window):
        for index in tiling.touching(seen):
            if tiling.kept(index).overlaps(seen):
                yield index, seen


@dataclass(frozen=True)
class Stored:
    """Converts values to their stored form; bytes are rounded and clamped to 0..255.

    ``dtypes``: of the stored values and, if there are two, of an overview that is ``scale`` times smaller.
    """

    dtypes: tuple[torch.dtype, ...]
    scale: int = 1

    def __call__(self, values: Tensor) -> tuple[Tensor, ...]:
        small = [torch.nn.functional.avg_pool2d(values, self.scale)] if len(self.dtypes) > 1 else []
        return tuple(_as_kept(each, dtype) for each, dtype in zip((values, *small), self.dtypes, strict=True))


def _as_kept(values: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.is_floating_point or values.dtype == dtype:
        return values
    return values.round().clamp(0, 255).to(dtype)


def groups_of(count: int, most: int, even: bool) -> Iterator[range]:
    """Divide ``count`` items into the fewest groups of at most ``most``, of which only the last is smaller.

    ``even``: into groups of nearly equal size, such as five and four instead of eight and one.
    """
    groups = -(-count // most)
    starts = [count * i // groups if even else most * i for i in range(groups)] + [count]
    yield from map(range, starts, starts[1:])


@dataclass(frozen=True)
class WithOverview:
    """A picture and an overview of it that is ``scale`` times smaller, filled together.

    Both have the same tiles. Stored values are those of the full picture, (c, h, w).
    """

    picture: Mosaic
    overview: Mosaic
    scale: int

    @property
    def size(self) -> Size:
        return self.picture.size

    def read(self, window: Window) -> Tensor:
        return self.picture.read(window)

    def put(self, index: int, values: Tensor) -> None:
        """Store a tile of both. Raises ``OSError`` if the disk is full."""
        self.keep(index, self.stored(values))

    @property
    def stored(self) -> Stored:
        """Converts tiles (..., c, h, w) to the stored form of both, on their device."""
        return Stored((*self.picture.stored.dtypes, *self.overview.stored.dtypes), self.scale)

    def keep(self, index: int, stored: Sequence[Tensor]) -> None:
        """Store a tile that ``stored`` has converted."""
        picture, overview = stored
        self.overview.put(index, overview)
        self.picture.put(index, picture)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[range]:
        """The groups with any tile that is missing in the picture or the overview."""
        both = (*self.picture.missing(group, even), *self.overview.missing(group, even))
        there = {indices.start: indices for indices in both}
        yield from (there[start] for start in sorted(there))

    @property
    def complete(self) -> bool:
        return self.picture.complete and self.overview.complete

    def sync(self) -> None:
        self.overview.sync()
        self.picture.sync()
