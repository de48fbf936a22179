"""The rule of consistency models, which replaces all of the noise at each step."""

from __future__ import annotations

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.samplers.rule import Move, Rule
from pixelsmith.sampling.schedule import noised


def consistency(move: Move) -> Batch:
    """Multistep sampling of consistency models (arXiv 2303.01469, algorithm 1; LCM), with new noise at each step."""
    return noised(move.clean, move.fresh(), move.s) if move.s.sigma > 0 else move.s.alpha * move.clean


RULE = Rule("lcm", consistency, draws=True)
