"""Which patches cover the canvas of a stage."""

from __future__ import annotations

import math

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.geometry import Size
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.scattered import COVERAGES, RandomCoverage

ROUND = 0.25
"""Sides of the model's patch that a base which wraps is padded round by, so that its edges see each other."""
PAPER_BORDER, PAPER_PATCH = 10, 128


def border_of(request: Request, facts: ModelFacts) -> int:
    """The border in latents: as asked, or as wide for this model's patch as the paper's 10 are for 128."""
    if request.method.border is not None:
        return request.method.border
    return max(1, min(facts.patch.width, facts.patch.height) * PAPER_BORDER // PAPER_PATCH)


def coverage_of(stage: int, canvas: Size, request: Request, facts: ModelFacts) -> ShiftedGrid | RandomCoverage:
    """Which patches move the canvas of stage ``stage`` (from 1)."""
    wrap, half_overlap = request.wrapped_axes, STRATEGIES[request.method.strategy].half_overlap
    border = min(facts.patch.width, facts.patch.height) // 2 if half_overlap else border_of(request, facts)
    most = wrap.padded(canvas, _whole(border, facts))
    patch = Size(min(facts.patch.width, most.width), min(facts.patch.height, most.height))
    if half_overlap:
        border = min(border, patch.width // 2, patch.height // 2)
    if half_overlap or wrap:
        return ShiftedGrid(canvas, patch, border, request.seed, stage, wrap)
    return COVERAGES[request.method.coverage](canvas, patch, border, request.seed, stage)


def base_coverage(canvas: Size, request: Request, facts: ModelFacts) -> ShiftedGrid:
    """One patch that moves all of the base; where that wraps it reaches over the edges, from elsewhere at each step."""
    wrap, more = request.wrapped_axes, _whole(math.ceil(ROUND * max(facts.patch.width, facts.patch.height)), facts)
    return ShiftedGrid(canvas, wrap.padded(canvas, more), more if wrap else 0, request.seed, 0, wrap)


def _whole(latents: int, facts: ModelFacts) -> int:
    """So many latents or a few more: as many as the network can take."""
    return -(-latents // facts.latent_multiple) * facts.latent_multiple
