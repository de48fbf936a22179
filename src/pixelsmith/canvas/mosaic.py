"""A canvas made of patches: each is kept as it was made, and reading a window averages those that meet there.

So nothing is ever added up in place: a patch that is made twice, in another order or by another worker leaves the
same bytes, and a run can stop and go on between any two of them.
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

    ``size`` is the part of the tiling's canvas that is seen, from its top left corner; without it all of it.
    """

    def __init__(
        self, tiling: Tiling, slots: Slots, channels: int, dtype: torch.dtype, size: Size | None = None
    ) -> None:
        self.tiling = tiling
        self.size = size or tiling.canvas
        self._slots, self._channels, self._dtype = slots, channels, dtype

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window inside the canvas, or over its edges where it wraps; all patches that it
        touches must be there.
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
        # Where a patch counts alone no other one counts: each value is in one of the two.
        return whole if mean is None else whole + _as_kept(torch.from_numpy(mean), self._dtype)

    def put(self, index: int, values: Tensor) -> None:
        """Keep patch ``index``: values (c, h, w) of its whole window, rounded and cut to 0..255 where pixels are bytes.

        Raises ``OSError`` where the disk is full.
        """
        kept = self.tiling.kept(index).relative_to(self.tiling[index].window)
        (stored,) = self.stored(values[(..., *kept.slices)])
        self._slots.write(index, stored.numpy())

    @property
    def stored(self) -> Stored:
        """What makes of patches (..., c, h, w) what is kept, on the device where they are."""
        return Stored((self._dtype,))

    def keep(self, index: int, stored: Sequence[Tensor]) -> None:
        """Keep a patch that is as ``stored`` makes it."""
        (values,) = stored
        self.put(index, values)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[range]:
        """The groups of at most ``group`` patches of which one or more are missing; ``even``: of one size, as far as
        that goes, or all of ``group`` but the last.

        Groups always begin at the same patches: how far a network's rounding depends on its batch, a run that was
        interrupted rounds as one that was not.
        """
        for indices in groups_of(len(self.tiling), group, even):
            if not all(index in self._slots for index in indices):
                yield indices

    @property
    def complete(self) -> bool:
        return next(self.missing(), None) is None

    def __contains__(self, index: int) -> bool:
        """Whether a patch is there."""
        return index in self._slots

    def has(self, window: Window) -> bool:
        """Whether every patch that counts in a window is there."""
        return all(index in self._slots for index in counting(self.tiling, window))

    def sync(self) -> None:
        """Return when all patches put would survive a power loss, as far as the storage can."""
        self._slots.sync()

    def _pieces(self, window: Window) -> Iterator[tuple[Window, np.ndarray, Values]]:
        """What each patch gives to a window: where in it, with which weights, which values."""
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
    """The patches that count in a window, in rising order."""
    return sorted({index for index, _ in _counting(tiling, window)})


def _counting(tiling: Tiling, window: Window) -> Iterator[tuple[int, Window]]:
    """The same, each with the window, or an image of it, that it is seen in."""
    for seen in tiling.images(window):
        for index in tiling.touching(seen):
            if tiling.kept(index).overlaps(seen):
                yield index, seen


@dataclass(frozen=True)
class Stored:
    """Makes of values what is kept of them: bytes are rounded and cut to 0..255.

    ``dtypes``: of what is kept: the values, and, where there are two, the same ``scale`` times smaller.
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
    """As few groups of at most ``most`` as hold so many items: all of that size but the last, or ``even`` ones.

    Nine in eights are eight and one, or five and four.
    """
    groups = -(-count // most)
    starts = [count * i // groups if even else most * i for i in range(groups)] + [count]
    yield from map(range, starts, starts[1:])


@dataclass(frozen=True)
class WithOverview:
    """A picture and the same picture ``scale`` times smaller, filled together: to look at large ones from afar.

    Both have the same tiles. Values that are put are those of the large one, (c, h, w).
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
        """Keep a tile of both. Raises ``OSError`` where the disk is full."""
        self.keep(index, self.stored(values))

    @property
    def stored(self) -> Stored:
        """What makes of tiles (..., c, h, w) what both keep, on the device where they are."""
        return Stored((*self.picture.stored.dtypes, *self.overview.stored.dtypes), self.scale)

    def keep(self, index: int, stored: Sequence[Tensor]) -> None:
        """Keep a tile that is as ``stored`` makes it."""
        picture, overview = stored
        self.overview.put(index, overview)
        self.picture.put(index, picture)

    def missing(self, group: int = 1, even: bool = False) -> Iterator[range]:
        """The groups of tiles of which one or more are missing in one of the two."""
        both = (*self.picture.missing(group, even), *self.overview.missing(group, even))
        there = {indices.start: indices for indices in both}
        yield from (there[start] for start in sorted(there))

    @property
    def complete(self) -> bool:
        return self.picture.complete and self.overview.complete

    def sync(self) -> None:
        self.overview.sync()
        self.picture.sync()
