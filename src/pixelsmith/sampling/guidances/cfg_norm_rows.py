"""Classifier-free guidance that keeps the norm of each row."""

from __future__ import annotations

import torch

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance, clean_of, velocity_of
from pixelsmith.sampling.schedule import Level


def row_norm_kept(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """Classifier-free guidance on velocities; each row of a channel keeps the norm of the estimate with the prompt.

    As in the pipeline of Lumina Image 2.
    """
    v = velocity_of(positive, x, level)
    guided = torch.lerp(velocity_of(negative, x, level), v, scale)
    lengths = v.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return clean_of(guided * lengths, x, level)


GUIDANCE = Guidance("cfg-norm-rows", row_norm_kept, of_velocities=True)
