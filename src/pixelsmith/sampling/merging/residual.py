"""DemoFusion's skip residual (arXiv 2311.16973, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.merging.merge import GuideAt, Merge, Needs


@dataclass(frozen=True)
class SkipResidual(Merge):
    """Mix the noisy patches with the guide at their level: ``(1 − c)·x_t + c·g_t``, c the weight of the step."""

    weights: Sequence[float]

    def needs(self, step: int) -> Needs:
        leads = self.weights[step] > 0
        return Needs(clean=leads, noise=leads)

    def before(self, x_t: Batch, guide: GuideAt) -> Batch:
        weight = self.weights[guide.step]
        return torch.lerp(x_t, guide.at(guide.t), weight) if weight > 0 else x_t
