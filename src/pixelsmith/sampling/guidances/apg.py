"""Adaptive projected guidance."""

from __future__ import annotations

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance, dot
from pixelsmith.sampling.schedule import Level

APG_LENGTH = 15.0
"""The longest difference that adaptive projected guidance lets through, as in the paper for SDXL (table 12)."""


def projected(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """Adaptive projected guidance: of the difference only what is orthogonal to the estimate, and not too much of it.

    arXiv 2410.02416, algorithm 1, with η = 0 and without momentum, which would need one more canvas.
    """
    difference = positive - negative
    difference = difference * (APG_LENGTH / dot(difference, difference).sqrt().clamp_min(1e-12)).clamp_max(1)
    along = dot(difference, positive) / dot(positive, positive).clamp_min(1e-12) * positive
    return positive + (scale - 1) * (difference - along)


GUIDANCE = Guidance("apg", projected)
