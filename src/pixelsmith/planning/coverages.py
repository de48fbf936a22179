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
"""Padding of a base that wraps, in sides of the model's patch, so that opposite edges are denoised together."""
PAPER_BORDER, PAPER_PATCH = 10, 128


def border_of(request: Request, facts: ModelFacts) -> int:
    """The border in latents: as requested, or in the paper's proportion of 10 to a patch of 128."""
    if request.method.border is not None:
        return request.method.border
    return max(1, min(facts.patch.width, facts.patch.height) * PAPER_BORDER // PAPER_PATCH)


def coverage_of(stage: int, canvas: Size, request: Request, facts: ModelFacts) -> ShiftedGrid | RandomCoverage:
    """The patches that cover the canvas of stage ``stage`` (from 1) at each step."""
    wrap, half_overlap = request.wrapped_axes, STRATEGIES[request.method.strategy].half_overlap
    border = min(facts.patch.width, facts.patch.height) // 2 if half_overlap else border_of(request, facts)
    most = wrap.padded(canvas, _whole(border, facts))
    patch = Size(min(facts.patch.width, most.width), min(facts.patch.height, most.height))
    if half_overlap:
        border = min(border, patch.width // 2, patch.height // 2)
    kind = ShiftedGrid if half_overlap else COVERAGES[request.method.coverage]
    return kind(canvas, patch, border, request.seed, stage, wrap)


def base_coverage(canvas: Size, request: Request, facts: ModelFacts) -> ShiftedGrid:
    """One patch that covers the base. If the base wraps, the patch reaches over its edges, shifted at each step."""
    wrap, more = request.wrapped_axes, _whole(math.ceil(ROUND * max(facts.patch.width, facts.patch.height)), facts)
    return ShiftedGrid(canvas, wrap.padded(canvas, more), more if wrap else 0, request.seed, 0, wrap)


def _whole(latents: int, facts: ModelFacts) -> int:
    """``latents``, rounded up to a multiple that the network accepts."""
    return -(-latents // facts.latent_multiple) * facts.latent_multiple
