"""Encoding and decoding tile by tile, with enough context that the result equals an untiled pass.

For local autoencoders it is exactly equal. Others use shared statistics of normalisation for the whole picture, and
their tiles are averaged over a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pixelsmith.engine.denoise import Patched
from pixelsmith.engine.executor import Executor, Serial
from pixelsmith.engine.filling import Filling, OnTile
from pixelsmith.engine.texture import Texture
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import NO_WRAP, Window, Wrap
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.readable import Readable, deferred
from pixelsmith.system.device import check_finite, room_for, staged
from pixelsmith.system.memory import large_blocks_apart

Storing = Callable[[Tensor], tuple[Tensor, ...]]
"""Converts tiles to the form in which they are kept; it holds no pixels itself."""
TILE = "a tile of the autoencoder"


@runtime_checkable
class Pixels(Patched, Protocol):
    """A picture that is filled tile by tile (``pixelsmith.canvas.Mosaic``, ``WithOverview``)."""

    @property
    def stored(self) -> Storing:
        """Converts tiles (b, 3, H, W) in 0..255 to their stored form, on their device."""
        ...

    def keep(self, index: int, stored: Sequence[Tensor]) -> None:
        """Store a tile (3, H, W) that ``stored`` has converted."""
        ...


def encode(
    picture: Readable,
    scale: int,
    autoencoder: Autoencoder,
    latents: Patched,
    on_tile: OnTile,
    executor: Executor | None = None,
    wrap: Wrap = NO_WRAP,
) -> None:
    """Encode a picture (3, H, W) uint8 into those tiles of ``latents`` that are missing.

    A latent covers ``scale`` pixels a side; the tiles are those of the autoencoder's ``tiling``. On the axes of
    ``wrap`` they reach over the edges. Raises ``DeviceError`` if the device has too little memory for a tile, or a
    latent is not finite.
    """

    def read(window: Window) -> Callable[[], Tensor]:
        return deferred(picture, window.scaled(scale), autoencoder.device)

    tiles = autoencoder.tiling.tiles(latents.size, wrap)
    filling = Filling(
        latents, tiles, TILE, "encode", lambda index: read(tiles[index].window), partial(_encoded, autoencoder)
    )
    samples = (_pixels(read(window)) for window in _sampled(tiles))
    with room_for(TILE), large_blocks_apart(), _steady(autoencoder.steady_encoding, tiles, samples, latents):
        filling.run(on_tile, executor or Serial())


def decode(
    latents: Readable,
    autoencoder: Autoencoder,
    picture: Pixels,
    on_tile: OnTile,
    executor: Executor | None = None,
    texture: Texture | None = None,
    wrap: Wrap = NO_WRAP,
) -> None:
    """Decode a canvas into those tiles of ``picture`` (3, H, W) in 0..255 that are missing, and add texture to them.

    The tiles are those of the latents at the scale of pixels; on the axes of ``wrap`` they reach over the edges. Raises
    ``DeviceError`` if the device has too little memory for a tile, or a pixel is not finite.
    """
    tiles, device, executor = autoencoder.tiling.tiles(latents.size, wrap), autoencoder.device, executor or Serial()

    def read(index: int) -> _Tile:
        window = tiles[index].window
        # Tiles may meet in the middle of a latent, so part of the next latent is used as well.
        more = 1 + (texture.context if texture else 0)
        kept = tiles.kept(index).around(more).common(window)
        noise = staged(texture.noise_of(kept), device) if texture and not executor.elsewhere else None
        return _Tile(staged(latents.read(window)[None], device), kept.relative_to(window), kept, noise)

    def keep(index: int, values: tuple[Tensor, ...]) -> None:
        *stored, whole = values
        check_finite(whole, TILE)
        picture.keep(index, [each[0] for each in stored])

    compute = partial(_decoded, autoencoder, texture, picture.stored)
    filling = Filling(picture, tiles, TILE, "decode", read, compute, keep)
    samples = (latents.read(window)[None] for window in _sampled(tiles))
    with room_for(TILE), large_blocks_apart(), _steady(autoencoder.steady_decoding, tiles, samples, picture):
        filling.run(on_tile, executor)


class _Tile(NamedTuple):
    """A tile to decode: its latents (1, c, h, w), the used part relative to them (``inside``) and on the canvas, and
    the noise for texture, unless it is generated elsewhere.
    """

    latents: Tensor
    inside: Window
    kept: Window
    noise: Tensor | None


def _pixels(tile: Callable[[], Tensor]) -> Float[Tensor, "1 3 H W"]:
    """Pixels in -1..1 from bytes."""
    return tile().float()[None] / 127.5 - 1


def _encoded(autoencoder: Autoencoder, tile: Callable[[], Tensor]) -> Tensor:
    return autoencoder.encode(_pixels(tile))


def _decoded(autoencoder: Autoencoder, texture: Texture | None, stored: Storing, tile: _Tile) -> tuple[Tensor, ...]:
    """The stored form of a decoded tile, and whether it was finite."""
    pixels = autoencoder.decode(tile.latents, tile.inside)
    if texture:
        texture.add_to(pixels[0], tile.inside, texture.noise_of(tile.kept) if tile.noise is None else tile.noise)
    # Everything is computed in place on the device, so that only bytes are copied to the host.
    whole = pixels.isfinite().flatten(1).all(1)
    return (*stored(pixels.add_(1).mul_(127.5).clamp_(0, 255)), whole)


def _steady(
    steady: Callable[[Iterator[Tensor]], AbstractContextManager[None]],
    tiles: Grid,
    samples: Iterator[Tensor],
    target: Patched,
) -> AbstractContextManager[None]:
    """Use shared statistics, unless no tile is missing or there is only one tile, which has its own statistics."""
    return nullcontext() if target.complete or len(tiles) == 1 else steady(samples)


def _sampled(patches: Grid) -> Iterator[Window]:
    """The tiles at the corners, the middles of the edges and the centre."""
    tops, lefts = (sorted({getattr(patch.window, name) for patch in patches}) for name in ("top", "left"))
    rows, columns = ({starts[i * (len(starts) - 1) // 2] for i in range(3)} for starts in (tops, lefts))
    return (patch.window for patch in patches if patch.window.top in rows and patch.window.left in columns)
