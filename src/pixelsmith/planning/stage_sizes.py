"""The sizes of the base picture and of the stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.errors import RequestError
from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.sampling.merging import MERGES

MAX_SHAPE = 4.0
"""The longest base picture, long side to short one; longer pictures use the middle of it."""
WRAPPED_SHAPES = 0.1
"""By what share the shapes of pictures that wrap may differ: they are rounded, and stretched in place of cut."""
MAX_STAGES = 400
"""Of a strategy that takes every multiple of the base."""


def cascade_of(request: Request, origin: Size, start: Size | None, facts: ModelFacts) -> tuple[Size, ...]:
    """The sizes of the stages: those asked for, or equal factors from the origin to the size, as large as suits.

    Where shapes differ the middle of a picture covers the next one, so a stage grows if one of its sides does. Raises
    ``RequestError`` where the first stage is smaller than what it starts from.
    """
    asked = request.cascade
    if asked and asked[-1] != request.size and asked[-1].fits_in(request.size):
        asked = (*asked, request.size)
    factor = (asked[0] if asked else request.size).factor_over(origin)
    strategy = STRATEGIES[request.method.strategy]
    growth, most = strategy.growth, MERGES[strategy.merge or request.method.merge].most
    if growth == "none":
        _check_without_stages(request, start)
        return ()
    if factor < 1 and (asked or start):
        what, first = "the given picture" if start else "the model's base picture", asked[0] if asked else request.size
        raise RequestError(f"the cascade shrinks: {what} has {origin}, the first stage {first}; ask for more")
    if asked or not (factor > 1 or start):
        return asked
    *between, last = (
        _multiples(origin, request.size) if growth == "multiples" else _equal_factors(origin, request.size, most)
    )
    wrap = request.wrapped_axes
    return (*(wrap.rounded(size, wrapped_unit(facts)) for size in between), last)


def wrapped_unit(facts: ModelFacts) -> int:
    """Pixels that sides of a picture are multiples of where it wraps: a canvas must end where its picture does."""
    return facts.latent_scale * facts.latent_multiple


def check_wrap(request: Request, facts: ModelFacts, start: Size | None, sizes: Sequence[Size]) -> None:
    """Raise ``RequestError`` where a picture cannot wrap, or would not after it was cut."""
    wrap, unit = request.wrapped_axes, wrapped_unit(facts)
    if not wrap:
        return
    if STRATEGIES[request.method.strategy].dilated:
        raise RequestError(
            f"wrap: {request.method.strategy} samples all of the canvas at once; choose another strategy"
        )
    if request.method.coverage == "random" and sizes:
        raise RequestError("wrap: random coverage ends at the edges; leave it out, or give --coverage grid")
    given = [start] if start else []
    # In latents a given picture is enlarged as it is.
    for size in [*(given if request.method.upsampling == "latent" else []), *sizes]:
        if wrap.rounded(size, unit) != size:
            raise RequestError(
                f"wrap: {facts.name} needs sides that are multiples of {unit} pixels where a picture wraps, got "
                f"{size}; the nearest is {wrap.rounded(size, unit)}"
            )
    for before, after in pairwise([*given, *sizes, request.size]):
        if abs(before.width * after.height / (before.height * after.width) - 1) > WRAPPED_SHAPES:
            raise RequestError(
                f"wrap: a picture that wraps cannot be cut to another shape, from {before} to {after}; give sizes of "
                "one shape"
            )


def _check_without_stages(request: Request, start: Size | None) -> None:
    strategy = request.method.strategy
    if request.cascade:
        raise RequestError(f"strategy: {strategy} has no stages; leave out the cascade")
    if start:
        raise RequestError(f"strategy: {strategy} has no stages; it cannot start from a given picture")


def _equal_factors(origin: Size, target: Size, most: float) -> tuple[Size, ...]:
    factor = target.factor_over(origin)
    count = max(1, math.ceil(math.log(factor) / math.log(most) - 1e-9))
    return (*(target.scaled(factor ** (i / count - 1)) for i in range(1, count)), target)


def _multiples(origin: Size, target: Size) -> tuple[Size, ...]:
    """Twice, three times, ... the origin's sides, and the target."""
    factor = target.factor_over(origin)
    if factor > MAX_STAGES:
        raise RequestError(
            f"size: from {origin} to {target} there are {math.ceil(factor):,} multiples, each a stage; expected at "
            f"most {MAX_STAGES}; give fewer with --cascade"
        )
    return (*(target.scaled(multiple / factor) for multiple in range(2, math.ceil(factor))), target)


def base_size(target: Size, native: Size, wrap: Wrap = NO_WRAP, unit: int = 1) -> Size:
    """The native area in the target's shape, or as near to it as 4:1: what the model can draw in one call.

    Where the picture wraps nothing can be cut from it: it has the target's shape, but for sides that are multiples of
    ``unit`` there.
    """
    most = math.inf if wrap else MAX_SHAPE
    shape = min(max(target.width / target.height, 1 / most), most)
    size = Size(max(1, round(math.sqrt(native.area * shape))), max(1, round(math.sqrt(native.area / shape))))
    return wrap.rounded(size, unit)
