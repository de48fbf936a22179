"""A rule that replaces part of the noise at each step."""

from __future__ import annotations

import math
from dataclasses import replace

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.samplers.rule import Move, Rule
from pixelsmith.sampling.schedule import step


def ancestral(move: Move) -> Batch:
    """Euler ancestral: the fresh noise at s has DDPM's variance, ``τ² = σ_s²·(1 − (α_t·σ_s / (α_s·σ_t))²)``.

    The rest of the noise follows the estimate (arXiv 2010.02502, equation 16 with η = 1; as in k-diffusion).
    """
    t, s = move.t, move.s
    kept = s.sigma * min(1.0, t.alpha * s.sigma / (s.alpha * t.sigma))
    added = math.sqrt(max(0.0, s.sigma**2 - kept**2))
    moved = step(move.x, move.clean, t, replace(s, sigma=kept))
    return moved + added * move.fresh() if added > 0 else moved


RULE = Rule("euler-a", ancestral, draws=True)
