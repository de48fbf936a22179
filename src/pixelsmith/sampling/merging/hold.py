"""Held structure: the frequency band that the previous stage resolves is held in the clean estimate.

``x̂0 ← x̂0 + B·y − B·x̂0``, where B keeps the band of frequencies that a smaller picture resolves, and B·y is the band
of the guide. How much smaller that picture is depends on the Slider at each position
(docs/decisions/0023-held-structure.md). After ILVR (arXiv 2108.02938), DDNM (arXiv 2212.00490) and HiFlow (arXiv
2504.06232), which hold whole pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.merging.band import Bands
from pixelsmith.sampling.merging.low_pass import low_pass
from pixelsmith.sampling.merging.merge import GuideAt, Lead, Merge, Merging, Needs
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.slider import held_share

POSITIONS = 16
"""The number of bands between Slider 0 and 1. A latent between two of them takes a weighted mean of both."""
MODERATED = 2 / 3
"""The share of the steps in which new detail is moderated; the last steps add grain, such as that of paper or water."""


def held(clean: Batch, guide: Batch, positions: Float[Tensor, "b 1 h w"], bands: Bands) -> Batch:
    """The clean estimate with its band replaced by that of the guide.

    - ``clean``, ``guide``: x̂0 and z_g, (b, c, h, w).
    - ``positions``: the Slider at each latent, 0 (free) to 1 (the whole band of the previous stage is held).
    """
    # Positions are on the CPU, because reading them from a device would make it wait.
    low, high = float(positions.min()), float(positions.max())
    if low == high:
        return (clean + bands(low).correction(clean, guide)).to(clean.dtype) if low > 0 else clean
    correction = torch.zeros_like(clean, dtype=torch.float32)
    scaled = positions.to(clean.device, torch.float32, non_blocking=True) * POSITIONS
    for k in range(max(1, math.floor(low * POSITIONS)), math.ceil(high * POSITIONS) + 1):
        share = (1 - (scaled - k).abs()).clamp_min(0)
        correction = correction + share * bands(k / POSITIONS).correction(clean, guide)
    return (clean + correction).to(clean.dtype)


def moderated(clean: Batch, guide: Batch, flatness: Float[Tensor, "b 1 h w"], factor: float) -> Batch:
    """The clean estimate with new detail in flat areas limited to the amount that the previous stage suggests.

    Pictures are similar at all scales: in latents, the detail that a real picture has beyond a scaled-down version of
    it is locally about as strong as the finest band of that version (docs/decisions/0023-held-structure.md). Let r be
    the local root mean square of the high band of the estimate's difference from the guide, and e that of the guide's
    own high band. Where r exceeds e, the difference is scaled by (e/r)^(2·flatness): at a flatness of ½ down to e, and
    at 1 as far below e as it was above, because objects are not expected in a flat area. An open sea keeps its waves,
    but hardly any island is added to it.
    """
    fine, new = (x.float() - low_pass(x, 0.5 / factor) for x in (guide, clean - guide))
    expected, found = (local_rms(x, factor) for x in (fine, new))
    share = (expected / found.clamp_min(1e-6)).clamp_max(1)
    return (clean + (share ** (2 * flatness) - 1) * new).to(clean.dtype)


def local_rms(x: Batch, factor: float) -> Float[Tensor, "b 1 h w"]:
    """The local root mean square over all channels, with a Gaussian window of about a latent of the previous stage."""
    return low_pass(x.square().mean(1, keepdim=True), 0.3 / factor, order=2).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Held(Merge):
    """Hold the band of the previous stage in the clean estimate.

    - ``weights``: the weight of the correction at each step, 1 to 0.
    - ``positions``: the Slider map (1, h, w) of the canvas; ``bands``: the held band at a position of the Slider.
    - ``factor``: the scale factor of the stage.
    - ``flatness``: a map (1, h, w) from 0 to 1 of where new detail is moderated; ``None`` for nowhere.
    """

    weights: Sequence[float]
    positions: Readable
    bands: Bands
    factor: float
    flatness: Readable | None = None

    def needs(self, step: int) -> Needs:
        flatness = self._flatness(step)
        maps = [self.positions] if self.weights[step] > 0 else []
        maps += [] if flatness is None else [flatness]
        return Needs(clean=bool(maps), maps=maps)

    def estimate(self, clean: Batch, guide: GuideAt) -> Batch:
        found, weight = clean, self.weights[guide.step]
        if weight > 0:
            found = torch.lerp(clean, held(clean, guide.clean, guide.read_map(self.positions), self.bands), weight)
        if (flatness := self._flatness(guide.step)) is not None:
            there = guide.read_map(flatness).to(clean.device, non_blocking=True)
            found = moderated(found, guide.clean, there, self.factor)
        return found

    def _flatness(self, step: int) -> Readable | None:
        """The flatness map, at the steps in which new detail is moderated."""
        return self.flatness if step < math.floor(MODERATED * len(self.weights)) else None


def _held(lead: Lead) -> Merge:
    return Held(lead.weights, lead.positions, lead.bands, lead.factor, lead.flatness)


MERGES = (Merging("hold", _held, held_share, most=8.0, slider=None, unused=("chess_mask",)),)
