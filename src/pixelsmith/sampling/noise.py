"""The noise ε of a stage as a function of (seed, stage, position), so that any window can be read at any time.

The base picture is a canvas of one patch, so its noise can be drawn in one call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.sampling.keyed import Purpose, keyed_generator
from pixelsmith.sampling.readable import read_wrapped

_Key = tuple[Purpose, int, int, tuple[int, ...]]
TILE = 32
"""The side of the fixed noise tiles in latents. Changing it would change the picture of every seed."""
CACHED_TILES = 512
"""The least number of cached tiles, 32 MB at 16 channels: enough for a whole canvas of 720x720 latents."""
MOST_CACHED = 64 << 20
"""The largest size of the cache in bytes."""


@runtime_checkable
class Noise(Protocol):
    """Standard normal noise; a window always has the same values."""

    @property
    def channels(self) -> int: ...

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        """The noise of a window, float32, unit variance."""
        ...


class DrawnNoise:
    """Standard normal noise of one canvas, drawn in one call, as the pipelines of diffusers do for a seed in float32.

    ``seed``: a whole number of at least 0, of which PyTorch uses 64 bits; ``channels``: of the latents.
    """

    def __init__(self, seed: int, channels: int, size: Size) -> None:
        generator = torch.Generator().manual_seed(seed % 2**64)
        self._values = torch.randn(channels, size.height, size.width, generator=generator)

    @property
    def channels(self) -> int:
        return len(self._values)

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        """The noise of a window of the canvas, float32, unit variance."""
        return self._values[(..., *window.slices)]


class NoiseField:
    """Standard normal noise over an unbounded canvas, drawn once per stage (docs/decisions/0002-keyed-randomness.md).

    ``seed`` and ``stage`` are whole numbers of at least 0; ``channels`` is the number of latent channels. With ``step``
    it is the noise of one step of the stage. ``rows``: the width of the canvas and the height of windows that are read
    row by row, for which the cache is made large enough that no tile is generated twice.
    """

    def __init__(
        self,
        seed: int,
        stage: int,
        channels: int,
        purpose: Purpose = Purpose.NOISE,
        step: int | None = None,
        rows: Size | None = None,
    ) -> None:
        self._channels = channels
        self._key: _Key = (purpose, seed, channels, (stage,) if step is None else (stage, step))
        # A cache per instance, so that the tiles are freed with the stage that needs them.
        self._tile = lru_cache(maxsize=_kept(rows, channels))(partial(_tile, self._key))

    def __reduce__(self) -> tuple[Any, ...]:
        """Serialised by its key alone."""
        purpose, seed, channels, (stage, *step) = self._key
        return NoiseField, (seed, stage, channels, purpose, *step)

    @property
    def channels(self) -> int:
        return self._channels

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        """The noise of a window, float32, unit variance."""
        values = np.empty((self._channels, window.height, window.width), np.float32)
        for row in range(window.top // TILE, -(-window.bottom // TILE)):
            for column in range(window.left // TILE, -(-window.right // TILE)):
                top, left = max(window.top, row * TILE), max(window.left, column * TILE)
                bottom, right = min(window.bottom, (row + 1) * TILE), min(window.right, (column + 1) * TILE)
                part = Window(top, left, bottom - top, right - left)
                inside = part.relative_to(Window(row * TILE, column * TILE, TILE, TILE)).slices
                values[(..., *part.relative_to(window).slices)] = self._tile(row, column)[(..., *inside)]
        return torch.from_numpy(values)


def repeated(noise: Noise, canvas: Size, wrap: Wrap) -> Noise:
    """The noise of a canvas that wraps, repeated beyond its edges. Without wrapping, the noise itself."""
    return _Repeated(noise, canvas, wrap) if wrap else noise


@dataclass(frozen=True)
class _Repeated:
    noise: Noise
    canvas: Size
    wrap: Wrap

    @property
    def channels(self) -> int:
        return self.noise.channels

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        return read_wrapped(self.noise.read, window, self.canvas, self.wrap)


def _kept(rows: Size | None, channels: int) -> int:
    """The number of cached tiles for windows that are read row by row."""
    if rows is None:
        return CACHED_TILES
    # The tiles under a row of windows, and one more row of tiles, which the next row of windows also uses.
    under = (-(-rows.height // TILE) + 2) * (-(-rows.width // TILE) + 1)
    return max(CACHED_TILES, min(under, MOST_CACHED // (channels * TILE**2 * 4)))


def _tile(key: _Key, row: int, column: int) -> NDArray[np.float32]:
    purpose, seed, channels, identity = key
    generator = keyed_generator(purpose, seed, *identity, row, column)
    return generator.standard_normal((channels, TILE, TILE), dtype=np.float32)
