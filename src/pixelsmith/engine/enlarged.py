"""Pictures that an upsampler enlarges, window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from pixelsmith.families import Upsampler
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.sampling.readable import Readable, read_wrapped

TILE = 256
"""The side of a tile in pixels of the source."""
CONTEXT = 32
"""The pixels around a tile that the network sees too. Both are multiples of the windows of transformers (8, 16, 32), so
that these lie on the same grid in every tile."""
LEAST_FACTOR = 1.1
"""The least factor for which the network is used; sizes are rounded, so 2x may be 2.003x. The rest is resampled."""
_KEPT_BYTES = 256 * 2**20


def enlarged_to(
    target: Size, picture: Readable, kernel: Kernel, upsampler: Upsampler | None, wrap: Wrap = NO_WRAP
) -> Resized:
    """A picture (3, H, W) uint8, enlarged by the upsampler until it covers ``target``, then resampled to that size."""
    found = picture
    while upsampler is not None and target.factor_over(found.size) >= LEAST_FACTOR:
        found = Enlarged(found, upsampler, wrap)
    return Resized(found, found.size, target, kernel, wrap=wrap)


def seen_through(picture: Resized, window: Window) -> Window:
    """The window of the picture that was enlarged by ``enlarged_to``, possibly past its edges, on which ``window``
    depends.
    """
    around, source = picture.sees(window), picture.source
    while isinstance(source, Enlarged):
        around, source = source.sees(around), source.source
    return around


@dataclass(frozen=True)
class Enlarged:
    """A picture (3, H, W) uint8 enlarged by an upsampler.

    It is computed in fixed tiles, so all windows agree; those computed last are kept for the next windows. On axes that
    ``wrap`` the network sees across the edges.
    """

    source: Readable
    upsampler: Upsampler
    wrap: Wrap = NO_WRAP
    _lock: Any = field(default_factory=Lock, init=False, repr=False, compare=False)

    @property
    def size(self) -> Size:
        size, scale = self.source.size, self.upsampler.scale
        return Size(size.width * scale, size.height * scale)

    def read(self, window: Window) -> Tensor:
        """The pixels of a window inside the picture. Raises ``DeviceError``."""
        side = TILE * self.upsampler.scale
        pixels = torch.empty(3, window.height, window.width, dtype=torch.uint8)
        # Executors read in several threads; a tile that two windows need is computed once.
        with self._lock:
            for top in range(window.top // side * side, window.bottom, side):
                for left in range(window.left // side * side, window.right, side):
                    place = Window(top, left, side, side)
                    part = place.common(window)
                    rows, columns = part.relative_to(window).slices
                    pixels[:, rows, columns] = self._tile(top, left)[:, *part.relative_to(place).slices]
        return pixels

    def sees(self, window: Window) -> Window:
        """The window of the source on which a window depends; both may reach over edges that wrap."""
        size, scale = self.source.size, self.upsampler.scale
        top, left = window.top // scale, window.left // scale
        bottom, right = -(-window.bottom // scale), -(-window.right // scale)
        inside = self.wrap.grown(Window(top, left, bottom - top, right - left), 0, size)
        top, bottom = _in_tiles(inside.top, inside.bottom, size.height)
        left, right = _in_tiles(inside.left, inside.right, size.width)
        return self.wrap.grown(Window(top, left, bottom - top, right - left), CONTEXT, size)

    @cached_property
    def _tile(self) -> Callable[[int, int], Tensor]:
        """The function for a tile, whose last results are kept."""
        most = max(4, _KEPT_BYTES // (3 * (TILE * self.upsampler.scale) ** 2))
        # Without a reference to this object, or both would only be freed by the garbage collector.
        return lru_cache(most)(partial(_computed, self.source, self.upsampler, self.wrap))


def _computed(source: Readable, upsampler: Upsampler, wrap: Wrap, top: int, left: int) -> Tensor:
    """The tile at this corner of the enlarged picture."""
    size, scale = source.size, upsampler.scale
    tile = Window(top // scale, left // scale, TILE, TILE).cut(size)
    around = wrap.grown(tile, CONTEXT, size)
    pixels = upsampler(read_wrapped(source.read, around, size, wrap))
    # A copy, because the tile would keep its surroundings in memory.
    return pixels[:, *tile.relative_to(around).scaled(scale).slices].clone()


def _in_tiles(start: int, end: int, length: int) -> tuple[int, int]:
    """An interval extended to whole tiles, which begin anew after each ``length``."""
    first, last = start // length * length, (end - 1) // length * length
    begins = first + (start - first) // TILE * TILE
    ends = last + min(((end - 1 - last) // TILE + 1) * TILE, length)
    return begins, ends
