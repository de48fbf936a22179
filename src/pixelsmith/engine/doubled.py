"""Latents that a model's network enlarges, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.engine.denoise import Patched
from pixelsmith.engine.executor import Executor
from pixelsmith.engine.filling import Filling, OnTile
from pixelsmith.families.family import DOUBLE, LatentUpsampler
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.grid import Grid, TileLayout
from pixelsmith.sampling.readable import Readable, deferred, read_wrapped
from pixelsmith.system.device import staged

TILE_OF_LATENT_UPSAMPLER = "a tile of the latent upsampler"
DOUBLED_TILES = TileLayout(side=96, context=0, blend=0)
"""The tiles of an enlarged canvas. What each sees around it adds about half of its area when it is doubled once."""


@dataclass(frozen=True)
class Doubled:
    """A canvas of latents, enlarged ``times`` times by a network that doubles it.

    - ``source``: latents (c, h, w) at the denoiser's scale; ``size``: of the result, at most that of all of them.
    - ``wrap``: the axes on which the canvas wraps.

    The network is local, so a window is computed from the part of the source that affects it, and equals that of the
    whole.
    """

    source: Readable
    network: LatentUpsampler
    times: int
    size: Size
    wrap: Wrap = NO_WRAP

    def read(self, window: Window) -> Float[Tensor, "c h w"]:
        """The latents of a window, which may reach over the edges on axes that wrap; float32."""
        return self.deferred(window, torch.device("cpu"))().cpu()

    def deferred(self, window: Window, device: torch.device) -> Callable[[], Tensor]:
        """Read the source of a window on the host; the returned function computes the window on the network's device.

        ``device``: the one that it is copied to.
        """
        windows = self._windows(window)
        values = read_wrapped(self.source.read, windows[0], self.source.size, self.wrap)
        return partial(_enlarged, self.network, staged(values[None], device), windows)

    def sees(self, window: Window) -> Window:
        """The window of the source on which a window of the result depends."""
        return self._windows(window)[0]

    def _windows(self, window: Window) -> Sequence[Window]:
        """The windows of the source, of each enlargement of it, and of the result."""
        found, size = [window], self.source.size
        for level in reversed(range(self.times)):
            bounds = Size(size.width * DOUBLE**level, size.height * DOUBLE**level)
            found.append(self.wrap.grown(found[-1].divided(DOUBLE), self.network.margin, bounds))
        return found[::-1]


@dataclass(frozen=True)
class Doubling:
    """A network that doubles latents, and how often it does."""

    network: LatentUpsampler
    times: int

    def of(self, latents: Readable, size: Size, wrap: Wrap = NO_WRAP) -> Doubled:
        """The enlarged latents, a canvas of this size."""
        return Doubled(latents, self.network, self.times, size, wrap)


def keep_doubled(
    doubled: Readable,
    kept: Patched,
    tiles: Grid,
    device: torch.device,
    on_tile: OnTile,
    executor: Executor,
) -> None:
    """Compute those tiles of ``kept`` that are missing. Raises ``DeviceError`` if there is no memory for one."""

    def read(index: int) -> Callable[[], Tensor]:
        return deferred(doubled, tiles[index].window, device)

    Filling(kept, tiles, TILE_OF_LATENT_UPSAMPLER, "enlarge", read, _computed).run(on_tile, executor)


def _computed(tile: Callable[[], Tensor]) -> Float[Tensor, "1 c h w"]:
    return tile()[None]


def _enlarged(network: LatentUpsampler, values: Float[Tensor, "1 c h w"], windows: Sequence[Window]) -> Tensor:
    """Enlarge the values of the first window, and cut each enlargement to the next window."""
    for seen, wanted in pairwise(windows):
        values = network(values)[(..., *wanted.relative_to(seen.scaled(DOUBLE)).slices)]
    return values[0]
