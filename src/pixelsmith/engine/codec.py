"""Between pixels and latents, tile by tile, with enough context that the result equals an untiled pass.

Local autoencoders give exactly that. The others are held steady (one normalisation for the whole picture) and their
tiles are averaged over a band.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from pixelsmith.engine.denoise import Patched
from pixelsmith.engine.executor import Executor, Serial, Work
from pixelsmith.engine.texture import Texture
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import Window
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.device import finite, room_for
from pixelsmith.system.memory import large_blocks_apart

OnTile = Callable[[int, int], None]
"""Hears (tiles done, tiles in all)."""
TILE = "a tile of the autoencoder"


def encode(
    picture: Readable,
    scale: int,
    autoencoder: Autoencoder,
    latents: Patched,
    on_tile: OnTile,
    executor: Executor | None = None,
) -> None:
    """Encode a picture (3, H, W) uint8 into those tiles of ``latents`` that are missing.

    A latent stands for ``scale`` pixels; the tiles are those of its ``tiling``. Raises ``DeviceError`` where the device
    has no memory for a tile, or a latent is not finite.
    """

    def read(window: Window) -> Tensor:
        return picture.read(window.scaled(scale)).float()[None] / 127.5 - 1

    tiles = autoencoder.tiling.tiles(latents.size)
    work = Work(
        kind=TILE,
        groups=latents.missing(),
        read=lambda indices: read(tiles[indices[0]].window),
        compute=autoencoder.encode,
        write=lambda group, values: _keep(latents, group, finite(values[0], TILE)),
        place=lambda group: _place("encode", tiles, group),
    )
    with room_for(TILE), large_blocks_apart(), _steady(autoencoder.steady_encoding, tiles, read, latents):
        (executor or Serial()).run(work, lambda group: on_tile(group[0] + 1, len(tiles)))


def decode(
    latents: Readable,
    autoencoder: Autoencoder,
    picture: Patched,
    on_tile: OnTile,
    executor: Executor | None = None,
    texture: Texture | None = None,
) -> None:
    """Decode a canvas into those tiles of ``picture`` (3, H, W) in 0..255 that are missing, and draw texture into them.

    They are the tiles of the latents at the scale of pixels. Raises ``DeviceError`` where the device
    has no memory for a tile, or a pixel is not finite.
    """

    def read(window: Window) -> Tensor:
        return latents.read(window)[None]

    tiles = autoencoder.tiling.tiles(latents.size)

    def read_tile(indices: Sequence[int]) -> tuple[Tensor, Window, Tensor | None]:
        (index,) = indices
        window = tiles[index].window
        # Tiles may meet in the middle of a latent: of the next one a part counts as well.
        more = 1 + (texture.context if texture else 0)
        kept = tiles.kept(index).grown(more, latents.size).common(window)
        return read(window), kept.relative_to(window), texture.noise_of(kept) if texture else None

    def compute(tile: tuple[Tensor, Window, Tensor | None]) -> Tensor:
        values, inside, noise = tile
        pixels = autoencoder.decode(values, inside)
        if texture and noise is not None:
            texture.add_to(pixels[0], inside, noise)
        return pixels

    def write(group: Sequence[int], values: Tensor) -> None:
        _keep(picture, group, ((finite(values[0], TILE) + 1) * 127.5).clamp(0, 255))

    work = Work(
        kind=TILE,
        groups=picture.missing(),
        read=read_tile,
        compute=compute,
        write=write,
        place=lambda group: _place("decode", tiles, group),
    )
    with room_for(TILE), large_blocks_apart(), _steady(autoencoder.steady_decoding, tiles, read, picture):
        (executor or Serial()).run(work, lambda group: on_tile(group[0] + 1, len(tiles)))


def _keep(target: Patched, group: Sequence[int], values: Tensor) -> None:
    target.put(group[0], values)
    target.sync()


def _place(what: str, tiles: Grid, group: Sequence[int]) -> str:
    window = tiles[group[0]].window
    return f"tile {group[0] + 1} of {len(tiles)} to {what}, at {window.left},{window.top} in latents"


def _steady(
    steady: Callable[[Iterator[Tensor]], AbstractContextManager[None]],
    tiles: Grid,
    read: Callable[[Window], Tensor],
    target: Patched,
) -> AbstractContextManager[None]:
    """Hold an autoencoder steady, unless there is nothing to do or but one tile, which has its own statistics."""
    return nullcontext() if target.complete or len(tiles) == 1 else steady(_samples(tiles, read))


def _samples(patches: Grid, read: Callable[[Window], Tensor]) -> Iterator[Tensor]:
    """Tiles at the corners, the middles of the edges and the centre."""
    tops, lefts = (sorted({getattr(patch.window, name) for patch in patches}) for name in ("top", "left"))
    rows, columns = ({starts[i * (len(starts) - 1) // 2] for i in range(3)} for starts in (tops, lefts))
    windows = [patch.window for patch in patches if patch.window.top in rows and patch.window.left in columns]
    return (read(window) for window in windows)
