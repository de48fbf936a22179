"""Pictures that an upsampler enlarges, window by window or, by several devices, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from pixelsmith.canvas import Array
from pixelsmith.engine.denoise import Patched
from pixelsmith.engine.executor import Executor
from pixelsmith.engine.filling import Filling, OnTile
from pixelsmith.families import Upsampler
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.sampling.grid import Grid, TileLayout
from pixelsmith.sampling.readable import Readable, read_wrapped
from pixelsmith.system.device import room_for

TILE = 256
"""The side of a tile in pixels of the source."""
CONTEXT = 32
"""The pixels around a tile that the network sees too. Both are multiples of the windows of transformers (8, 16, 32), so
that these lie on the same grid in every tile."""
LAYOUT = TileLayout(TILE + 2 * CONTEXT, CONTEXT, 0)
LEAST_FACTOR = 1.1
"""The least factor for which the network is used; sizes are rounded, so 2x may be 2.003x. The rest is resampled."""
TILE_OF_UPSAMPLER = "a tile of the upsampler"
_KEPT_BYTES = 256 * 2**20


def enlarged_to(
    target: Size, picture: Readable, kernel: Kernel, upsampler: Upsampler | None, wrap: Wrap = NO_WRAP
) -> Resized:
    """A picture (3, H, W) uint8, enlarged by the upsampler until it covers ``target``, then resampled to that size."""
    found = picture
    if upsampler is not None:
        for _ in sizes_of_passes(target, picture.size, upsampler.scale):
            found = Enlarged(found, upsampler, wrap)
    return Resized(found, found.size, target, kernel, wrap=wrap)


def piece_side(tile: int | None, scale: int) -> int | None:
    """The largest side of a piece of a tile in pixels of the source, for a side ``tile`` of the result that the user
    asks for. Smaller pieces would consist of context, which is computed several times.
    """
    return None if tile is None else max(tile // scale, 4 * CONTEXT)


def sizes_of_passes(target: Size, size: Size, scale: int) -> Iterator[Size]:
    """The sizes to which an upsampler enlarges a picture of a ``size`` until it covers ``target``."""
    while target.factor_over(size) >= LEAST_FACTOR:
        size = Size(size.width * scale, size.height * scale)
        yield size


def stored_bytes(target: Size, size: Size, scale: int) -> int:
    """The bytes of the canvases in which the results of these passes are stored."""
    return sum(3 * found.padded(TILE * scale).area for found in sizes_of_passes(target, size, scale))


def tiles_of_passes(
    target: Size, size: Size, window: Window, kernel: Kernel, scale: int, wrap: Wrap
) -> tuple[int, ...]:
    """The number of tiles that each pass of an upsampler computes for a ``window`` of a picture of a ``size`` that is
    enlarged to ``target``; the window may reach past its edges.
    """
    blank = Array(torch.zeros(1, dtype=torch.uint8).expand(3, size.height, size.width))
    picture = enlarged_to(target, blank, kernel, _Planned(scale), wrap)
    return tuple(len(needed_tiles(*each)) for each in passes_of(picture, window))


@dataclass(frozen=True)
class _Planned:
    """An upsampler of which only the scale is known."""

    scale: int

    def __call__(self, pixels: Tensor) -> Tensor:
        raise NotImplementedError("a plan enlarges nothing")


def seen_through(picture: Resized, window: Window) -> Window:
    """The window of the picture that was enlarged by ``enlarged_to``, possibly past its edges, on which ``window``
    depends.
    """
    passes = passes_of(picture, window)
    return passes[0][0].sees(passes[0][1]) if passes else picture.sees(window)


def passes_of(picture: Resized, window: Window) -> list[tuple[Enlarged, Window]]:
    """The passes of the upsampler below a picture, in their order, each with its own window on which ``window``
    depends; these may reach past the edges.
    """
    passes: list[tuple[Enlarged, Window]] = []
    around, source = picture.sees(window), picture.source
    while isinstance(source, Enlarged):
        passes.insert(0, (source, around))
        around, source = source.sees(around), source.source
    return passes


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

    @cached_property
    def tiles(self) -> Grid:
        """Its tiles, which may reach beyond the right and the bottom edge."""
        side = TILE * self.upsampler.scale
        return TileLayout(side, 0, 0).tiles(self.size.padded(side))

    def read(self, window: Window) -> Tensor:
        """The pixels of a window inside the picture. Raises ``DeviceError``."""
        pixels = torch.empty(3, window.height, window.width, dtype=torch.uint8)
        # Executors read in several threads; a tile that two windows need is computed once.
        with self._lock:
            for index in self.tiles.touching(window):
                place = self.tiles[index].window
                part = place.common(window)
                pixels[:, *part.relative_to(window).slices] = self._tile(place)[:, *part.relative_to(place).slices]
        return pixels

    def sees(self, window: Window) -> Window:
        """The window of the source on which a window depends; both may reach over edges that wrap."""
        size = self.source.size
        inside = self.wrap.grown(window.divided(self.upsampler.scale), 0, size)
        top, bottom = _in_tiles(inside.top, inside.bottom, size.height)
        left, right = _in_tiles(inside.left, inside.right, size.width)
        return self.wrap.grown(Window(top, left, bottom - top, right - left), CONTEXT, size)

    @cached_property
    def _tile(self) -> Callable[[Window], Tensor]:
        """The function for a tile, whose last results are kept."""
        most = max(4, _KEPT_BYTES // (3 * (TILE * self.upsampler.scale) ** 2))
        # Without a reference to this object, or both would only be freed by the garbage collector.
        return lru_cache(most)(partial(_computed, self.source, self.upsampler, self.wrap))


def fill(kept: Patched, picture: Enlarged, around: Window, on_tile: OnTile, executor: Executor) -> None:
    """Compute those tiles of ``picture.tiles`` that are missing in a canvas with an executor.

    ``around``: only the tiles on which this window depends, which may reach over edges that wrap.
    """
    tiles, upsampler, wrap = picture.tiles, picture.upsampler, picture.wrap
    needed = needed_tiles(picture, around)

    def read(index: int) -> _Surrounded:
        return _Surrounded.of(picture.source, tiles[index].window, upsampler.scale, wrap)

    compute = partial(_upsampled, upsampler)
    Filling(kept, tiles, TILE_OF_UPSAMPLER, "upsample", read, compute, needed=needed).run(on_tile, executor)


def needed_tiles(picture: Enlarged, around: Window) -> set[int]:
    """The tiles on which a window of the picture depends, which may reach over edges that wrap."""
    pieces = [piece for row in picture.wrap.pieces(around, picture.size) for piece in row]
    return {index for piece in pieces for index in picture.tiles.touching(piece.cut(picture.size))}


class _Surrounded(NamedTuple):
    """A tile of a source with its context: the pixels (3, h, w), and the tile's place in them."""

    pixels: Tensor
    tile: Window

    @classmethod
    def of(cls, source: Readable, place: Window, scale: int, wrap: Wrap) -> _Surrounded:
        """The tile at this place of the enlarged picture."""
        size = source.size
        tile = Window(place.top // scale, place.left // scale, TILE, TILE).cut(size)
        around = wrap.grown(tile, CONTEXT, size)
        return cls(read_wrapped(source.read, around, size, wrap), tile.relative_to(around))


def _upsampled(upsampler: Upsampler, read: _Surrounded) -> Tensor:
    """The enlarged tile (1, 3, H, W), filled with zeros beyond the right and the bottom edge."""
    tile, side = read.tile.scaled(upsampler.scale), TILE * upsampler.scale
    return pad(upsampler(read.pixels)[None, :, *tile.slices], (0, side - tile.width, 0, side - tile.height))


def _computed(source: Readable, upsampler: Upsampler, wrap: Wrap, place: Window) -> Tensor:
    """The tile (3, H, W) at this place of the enlarged picture. Raises ``DeviceError`` without memory for it."""
    with room_for(TILE_OF_UPSAMPLER):
        # A copy, because the tile would keep its surroundings in memory.
        return _upsampled(upsampler, _Surrounded.of(source, place, upsampler.scale, wrap))[0].clone()


def _in_tiles(start: int, end: int, length: int) -> tuple[int, int]:
    """An interval extended to whole tiles, which begin anew after each ``length``."""
    first, last = start // length * length, (end - 1) // length * length
    begins = first + (start - first) // TILE * TILE
    ends = last + min(((end - 1 - last) // TILE + 1) * TILE, length)
    return begins, ends
