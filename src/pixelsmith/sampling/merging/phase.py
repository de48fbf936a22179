"""The paper's merge: phase fusion before the network and the chess mask after the step (sections 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from pixelsmith.sampling.chess import chess_mask, chess_phase
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.fusion import FUSIONS, Fusion, fuse
from pixelsmith.sampling.merging.merge import GuideAt, Lead, Merge, Merging, Needs


@dataclass(frozen=True)
class Fused(Merge):
    """Fuse the noisy patches with the guide at their noise level.

    ``chess_mask``: whether every other latent of the result is replaced by the guide. ``weights``: the guide's weight
    at each step, 1 to 0.
    """

    weights: Sequence[float]
    fusion: Fusion = FUSIONS["phase"]
    chess_mask: bool = True

    def needs(self, step: int) -> Needs:
        # The mask needs a guided next step as well. Weights never rise, so such a step is guided itself.
        leads = self.weights[step] > 0
        return Needs(clean=leads, noise=leads)

    def before(self, x_t: Batch, guide: GuideAt) -> Batch:
        weight = self.weights[guide.step]
        return fuse(x_t, guide.at(guide.t), self.fusion, weight) if weight > 0 else x_t

    def after(self, x_s: Batch, guide: GuideAt) -> Batch:
        # In the paper the guide exists only at the levels of guided steps, so the mask needs a guided next step.
        weight = self.weights[guide.step + 1] if guide.step + 1 < len(self.weights) else 0.0
        if not self.chess_mask or weight == 0:
            return x_s
        masks = [
            _mask_on(x_s.device, window.height, window.width, chess_phase(guide.seed, guide.stage, guide.step, window))
            for window in guide.windows
        ]
        return torch.lerp(x_s, guide.at(guide.s), weight * torch.stack(masks)[:, None])


@lru_cache(maxsize=16)
def _mask_on(device: torch.device, height: int, width: int, phase: int) -> Tensor:
    """A chess mask on a device, cached."""
    return chess_mask(height, width, phase).to(device)


def _fused(fusion: Fusion, lead: Lead) -> Merge:
    return Fused(lead.weights, fusion, lead.chess_mask)


MERGES = tuple(Merging(name, partial(_fused, fusion)) for name, fusion in FUSIONS.items())
