"""Between pixels and latents, tile by tile, with enough context that the result equals an untiled pass.

Local autoencoders give exactly that. The others are held steady (one normalisation for the whole picture) and their
tiles are averaged over a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pixelsmith.families.protocol import Autoencoder, Tiling
from pixelsmith.geometry import Size, Window, tiles
from pixelsmith.sampling.denoise import Canvas, Readable
from pixelsmith.sampling.patches import Patch, fixed_grid

OnTile = Callable[[int, int], None]
"""Hears (tiles done, tiles in all)."""


def tile_patches(latent_size: Size, tiling: Tiling) -> list[Patch]:
    """The tiles of a canvas in latents with their weights."""
    return fixed_grid(latent_size, tiling.side, 2 * tiling.context, tiling.blend)


def encode(picture: Readable, scale: int, autoencoder: Autoencoder, latents: Canvas, on_tile: OnTile) -> None:
    """Encode a picture (3, H, W) uint8 into a canvas of zeros whose latents stand for ``scale`` pixels each."""

    def read(window: Window) -> Tensor:
        return picture.read(window.scaled(scale)).float()[None] / 127.5 - 1

    patches = tile_patches(latents.size, autoencoder.tiling)
    with autoencoder.steady_encoding(_samples(patches, read)):
        for done, patch in enumerate(patches, start=1):
            latents.add(patch.window, autoencoder.encode(read(patch.window))[0] * torch.from_numpy(patch.weights))
            on_tile(done, len(patches))


def decode(
    latents: Readable,
    scale: int,
    autoencoder: Autoencoder,
    size: Size,
    new_canvas: Callable[[Size], Canvas],
    on_tile: OnTile,
) -> Canvas:
    """Decode a canvas into a picture (3, H, W) in 0..255 float32 of exactly ``size`` pixels, without the padding."""

    def read(window: Window) -> Tensor:
        return latents.read(window)[None]

    picture = new_canvas(size)
    patches = tile_patches(latents.size, autoencoder.tiling)
    with autoencoder.steady_decoding(_samples(patches, read)):
        for done, patch in enumerate(patches, start=1):
            weights = torch.from_numpy(patch.weights)
            if autoencoder.tiling.blend:
                weights = torch.nn.functional.interpolate(weights[None, None], scale_factor=scale, mode="bilinear")[0]
            else:
                weights = weights.repeat_interleave(scale, 0).repeat_interleave(scale, 1)[None]
            pixels = ((autoencoder.decode(read(patch.window))[0] + 1) * 127.5).clamp(0, 255) * weights
            window = patch.window.scaled(scale).cut(size)
            if window.height > 0 and window.width > 0:
                picture.add(window, pixels[:, : window.height, : window.width])
            on_tile(done, len(patches))
    return picture


def quantised(picture: Readable, target: Canvas) -> Canvas:
    """Round a picture (3, H, W) in 0..255 to uint8, window by window."""
    for window in tiles(picture.size, 1024):
        target.write(window, picture.read(window).round().clamp(0, 255).to(torch.uint8))
    return target


def _samples(patches: list[Patch], read: Callable[[Window], Tensor]) -> Iterator[Tensor]:
    """Tiles at the corners, the middles of the edges and the centre."""
    tops, lefts = (sorted({getattr(patch.window, name) for patch in patches}) for name in ("top", "left"))
    rows, columns = ({starts[i * (len(starts) - 1) // 2] for i in range(3)} for starts in (tops, lefts))
    windows = [patch.window for patch in patches if patch.window.top in rows and patch.window.left in columns]
    return (read(window) for window in windows)
