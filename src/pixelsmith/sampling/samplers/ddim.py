"""The first-order rule."""

from __future__ import annotations

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.samplers.rule import Move, Rule
from pixelsmith.sampling.schedule import step


def first_order(move: Move) -> Batch:
    """DDIM (arXiv 2010.02502); for flow matching the same rule is Euler's."""
    return step(move.x, move.clean, move.t, move.s)


RULE = Rule("ddim", first_order)
