"""The paper's way: phase fusion before the network and the chess mask after the step (sections 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixelsmith.sampling.chess import chess_mask, chess_phase
from pixelsmith.sampling.fusion import FUSIONS, Fusion, fuse
from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.merging.merge import GuideAt, Merge, Needs


@dataclass(frozen=True)
class Fused(Merge):
    """Fuse the noisy patches with the guide at their level; ``chess_mask``: and replace every other latent by it.

    ``weights``: how strongly the guide leads each step, 1 to 0.
    """

    weights: Sequence[float]
    fusion: Fusion = FUSIONS["phase"]
    chess_mask: bool = True

    def needs(self, step: int) -> Needs:
        # The mask needs the guide to lead at the next step as well, and it never leads later than earlier.
        leads = self.weights[step] > 0
        return Needs(clean=leads, noise=leads)

    def before(self, x_t: Batch, guide: GuideAt) -> Batch:
        weight = self.weights[guide.step]
        return fuse(x_t, guide.at(guide.t), self.fusion, weight) if weight > 0 else x_t

    def after(self, x_s: Batch, guide: GuideAt) -> Batch:
        # The paper's guide does not reach past its last step: the mask needs the guide to lead at s as well.
        weight = self.weights[guide.step + 1] if guide.step + 1 < len(self.weights) else 0.0
        if not self.chess_mask or weight == 0:
            return x_s
        masks = [
            chess_mask(window.height, window.width, chess_phase(guide.seed, guide.stage, guide.step, window))
            for window in guide.windows
        ]
        return torch.lerp(x_s, guide.at(guide.s), weight * torch.stack(masks)[:, None].to(x_s.device))
