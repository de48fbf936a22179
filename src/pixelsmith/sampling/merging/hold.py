"""Held structure: what the picture below knows is held in the clean estimate, all else is the model's.

``x̂0 ← x̂0 + B·y − B·x̂0``, where B keeps the band of frequencies that a smaller picture knows, and B·y is that of the
guide; how much smaller is what the Slider says, place by place (docs/decisions/0023-held-structure.md). After ILVR
(arXiv 2108.02938), DDNM (arXiv 2212.00490) and HiFlow (arXiv 2504.06232), which hold whole pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.merging.band import Band
from pixelsmith.sampling.merging.low_pass import low_pass
from pixelsmith.sampling.merging.merge import GuideAt, Merge, Needs
from pixelsmith.sampling.readable import Readable

POSITIONS = 16
"""Bands between the Slider's 0 and 1. A place between two of their positions takes a mean of both."""
MODERATED = 0.9
"""Share of the steps in which new detail is moderated. The last ones give flat places their grain: paper, water."""

Bands = Callable[[float], Band]
"""The band that is held at a Slider position above 0, at most 1."""


def held(clean: Batch, guide: Batch, positions: Float[Tensor, "b 1 h w"], bands: Bands) -> Batch:
    """The clean estimate with its band brought to that of the guide.

    - ``clean``, ``guide``: x̂0 and z_g, (b, c, h, w).
    - ``positions``: the Slider at each place, 0 (free) to 1 (all that the picture below knows is held).
    """
    # On the CPU, where maps are read: asking a device would make it wait.
    low, high = float(positions.min()), float(positions.max())
    if low == high:
        return (clean + bands(low).correction(clean, guide)).to(clean.dtype) if low > 0 else clean
    correction = torch.zeros_like(clean, dtype=torch.float32)
    scaled = positions.to(clean.device, torch.float32) * POSITIONS
    for k in range(max(1, math.floor(low * POSITIONS)), math.ceil(high * POSITIONS) + 1):
        share = (1 - (scaled - k).abs()).clamp_min(0)
        correction = correction + share * bands(k / POSITIONS).correction(clean, guide)
    return (clean + correction).to(clean.dtype)


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
    """Hold what the picture below knows in the clean estimate.

    - ``weights``: how much of the correction each step takes, 1 to 0.
    - ``positions``: the Slider map (1, h, w) of the canvas; ``bands``: what is held at a position.
    - ``factor``: how many times as large as the picture below the stage's picture is.
    - ``flatness``: where new detail is moderated, a map (1, h, w) from 0 to 1; nowhere without one.
    """

    weights: Sequence[float]
    positions: Readable
    bands: Bands
    factor: float
    flatness: Readable | None = None

    def needs(self, step: int) -> Needs:
        if self.weights[step] == 0:
            return Needs()
        flatness = self._flatness(step)
        return Needs(clean=True, maps=[self.positions, *([] if flatness is None else [flatness])])

    def estimate(self, clean: Batch, guide: GuideAt) -> Batch:
        weight = self.weights[guide.step]
        if weight == 0:
            return clean
        found = held(clean, guide.clean, guide.read_map(self.positions), self.bands)
        if (flatness := self._flatness(guide.step)) is not None:
            found = moderated(found, guide.clean, guide.read_map(flatness).to(clean.device), self.factor)
        return torch.lerp(clean, found, weight)

    def _flatness(self, step: int) -> Readable | None:
        """Where new detail is moderated at a step, if it is."""
        return self.flatness if step < math.floor(MODERATED * len(self.weights)) else None
