"""Classifier-free guidance."""

from __future__ import annotations

import torch

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance
from pixelsmith.sampling.schedule import Level


def plain(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """``n + scale·(p − n)`` (arXiv 2207.12598)."""
    return torch.lerp(negative, positive, scale)


GUIDANCE = Guidance("cfg", plain)
