"""A second-order rule, for few steps."""

from __future__ import annotations

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.samplers.ddim import first_order
from pixelsmith.sampling.samplers.rule import Move, Rule
from pixelsmith.sampling.schedule import extrapolated, step


def second_order(move: Move) -> Batch:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2)."""
    if move.before is None or move.previous is None:
        return first_order(move)
    direction = extrapolated(move.clean, move.previous, move.before, move.t, move.s)
    return step(move.x, direction, move.t, move.s)


RULE = Rule("dpmpp-2m", second_order, remembers=True)
