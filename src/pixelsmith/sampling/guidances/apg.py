"""Adaptive projected guidance."""

from __future__ import annotations

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance, dot
from pixelsmith.sampling.schedule import Level

APG_LENGTH = 15.0
"""The norm to which the difference of the estimates is limited; the paper's value for SDXL (table 12)."""


def projected(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """Adaptive projected guidance: the part of the difference orthogonal to the estimate, limited in its norm.

    arXiv 2410.02416, algorithm 1, with η = 0 and without momentum, which would need another canvas.
    """
    difference = positive - negative
    difference = difference * (APG_LENGTH / dot(difference, difference).sqrt().clamp_min(1e-12)).clamp_max(1)
    along = dot(difference, positive) / dot(positive, positive).clamp_min(1e-12) * positive
    return positive + (scale - 1) * (difference - along)


GUIDANCE = Guidance("apg", projected)
