"""CFG-Zero*, for flow matching."""

from __future__ import annotations

import torch

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance, clean_of, dot, velocity_of
from pixelsmith.sampling.schedule import Level


def zero_star(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """CFG-Zero*: the velocity without the prompt is first scaled to fit the one with it; at pure noise it is 0.

    arXiv 2503.18886, equations 8 and 9. Solvers do not extrapolate from an estimate at pure noise, so the zero velocity
    affects no later step.
    """
    if level.alpha == 0:
        return clean_of(torch.zeros_like(x), x, level)
    v, without = velocity_of(positive, x, level), velocity_of(negative, x, level)
    fit = dot(v, without) / dot(without, without).clamp_min(1e-8)
    return clean_of(torch.lerp(fit * without, v, scale), x, level)


GUIDANCE = Guidance("cfg-zero", zero_star, of_velocities=True)
