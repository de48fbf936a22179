"""Held structure: the low band of the clean estimate is held to the picture below, the high band is the model's.

``x̂0 ← x̂0 + L(z_g − x̂0)`` with a low-pass L whose cut-off the Slider moves, place by place
(docs/decisions/0023-held-structure.md). After ILVR (arXiv 2108.02938), DDNM (arXiv 2212.00490) and HiFlow (arXiv
2504.06232), which hold whole pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.merging.protocol import GuideAt, Merge
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.slider import cutoff

ORDER = 4
"""How steeply the low-pass falls. A Gaussian (2) mixes guide and estimate over two octaves, where the mixture has less
power than either."""
POSITIONS = 16
"""Low-passes between the Slider's 0 and 1. A place between two of their positions takes a mean of both."""


def low_pass(x: Batch, limit: float, order: int = ORDER) -> Batch:
    """``x`` (b, c, h, w) without its high frequencies; float32.

    ``exp(−½·(ν/limit)^order)`` for rows and for columns, with ν and ``limit`` in cycles a latent. The patch is mirrored
    at its edges, so its mean stays as it is.
    """
    height, width = x.shape[-2:]
    rows, columns = (_low_pass_matrix(side, limit, order, x.device) for side in (height, width))
    return rows @ x.float() @ columns.T


@lru_cache(maxsize=256)
def _low_pass_matrix(side: int, limit: float, order: int, device: torch.device) -> Float[Tensor, "n n"]:
    """Mirrored edges are what a cosine transform sees."""
    places, waves = torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64)
    cosines = torch.cos(math.pi / side * (places[:, None] + 0.5) * waves) * math.sqrt(2 / side)
    cosines[:, 0] *= math.sqrt(0.5)
    gain = torch.exp(-0.5 * (waves / (2 * side) / limit) ** order)
    return ((cosines * gain) @ cosines.T).float().to(device)


def held(clean: Batch, guide: Batch, positions: Float[Tensor, "b 1 h w"], factor: float) -> Batch:
    """The clean estimate with its low band brought to that of the guide.

    - ``clean``, ``guide``: x̂0 and z_g, (b, c, h, w).
    - ``positions``: the Slider at each place, 0 (free) to 1 (the guide itself).
    - ``factor``: how many times as large as the picture below the stage's picture is; the finest frequency of the
      latents below is ``0.5 / factor`` cycles a latent here.
    """
    difference = (guide - clean).float()
    low, high = float(positions.min()), float(positions.max())
    if low == high:
        return (clean + _held_part(difference, low, factor)).to(clean.dtype)
    correction = torch.zeros_like(difference)
    scaled = positions.float() * POSITIONS
    for k in range(math.floor(low * POSITIONS), math.ceil(high * POSITIONS) + 1):
        share = (1 - (scaled - k).abs()).clamp_min(0)
        correction = correction + share * _held_part(difference, k / POSITIONS, factor)
    return (clean + correction).to(clean.dtype)


def _held_part(difference: Batch, position: float, factor: float) -> Batch:
    if position <= 0:
        return torch.zeros_like(difference)
    return difference if position >= 1 else low_pass(difference, cutoff(position) * 0.5 / factor)


def moderated(clean: Batch, guide: Batch, flatness: Float[Tensor, "b 1 h w"], factor: float) -> Batch:
    """The clean estimate with no more new detail in flat places than the picture below lets expect there.

    Pictures look alike at all scales: what a real picture has beyond its smaller self, as latents, is at each place
    about as strong as the finest band of that smaller self there (docs/decisions/0023-held-structure.md). Where the
    high band of the departure from the guide has a local root mean square r above that of the guide's, e, it is scaled
    by (e/r)^(2·flatness): at a flatness of ½ down to what is expected, at 1 as far below it as it was above, for an
    object in a flat place is not expected at all. So an open sea keeps its waves, and hardly an island grows on it.
    """
    fine, new = (x.float() - low_pass(x, 0.5 / factor) for x in (guide, clean - guide))
    expected, found = (local_rms(x, factor) for x in (fine, new))
    share = (expected / found.clamp_min(1e-6)).clamp_max(1)
    return (clean + (share ** (2 * flatness) - 1) * new).to(clean.dtype)


def local_rms(x: Batch, factor: float) -> Float[Tensor, "b 1 h w"]:
    """Over all channels and about a latent of the picture below, by a Gaussian, whose weights are nowhere negative."""
    return low_pass(x.square().mean(1, keepdim=True), 0.3 / factor, order=2).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Held(Merge):
    """Hold the low band of the clean estimate.

    - ``weights``: how much of the correction each step takes, 1 to 0.
    - ``positions``: the Slider map (1, h, w) of the canvas; ``factor``: as for ``held``.
    - ``flatness``: where new detail is moderated, a map (1, h, w) from 0 to 1; nowhere without one.
    """

    weights: Sequence[float]
    positions: Readable
    factor: float
    flatness: Readable | None = None

    def estimate(self, clean: Batch, guide: GuideAt) -> Batch:
        weight = self.weights[guide.step]
        if weight == 0:
            return clean
        found = held(clean, guide.clean, _read(self.positions, guide.windows, clean), self.factor)
        if self.flatness is not None:
            found = moderated(found, guide.clean, _read(self.flatness, guide.windows, clean), self.factor)
        return torch.lerp(clean, found, weight)


def _read(source: Readable, windows: Sequence[Window], like: Tensor) -> Tensor:
    return torch.stack([source.read(window) for window in windows]).to(like.device)
