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
"""The largest aspect ratio of a base picture; for a larger one, the middle of the base is used."""
WRAPPED_SHAPES = 0.1
"""The largest relative difference of aspect ratios if the picture wraps, in which case it is stretched, not cropped."""
MOST_SHRUNK = 1.1
"""The largest factor by which a picture is shrunk before the model's network doubles its latents."""
MAX_STAGES = 400
"""The largest number of stages of a strategy that has one for every multiple of the base."""


def cascade_of(request: Request, origin: Size, start: Size | None, facts: ModelFacts) -> tuple[Size, ...]:
    """The sizes of the stages: those of the request, or as few equal factors as the merge allows.

    Pictures of another aspect ratio are cropped to their middle, so a stage grows if one of its sides does. Raises
    ``RequestError`` if the first stage is smaller than the picture that it starts from.
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
    sizes = [origin]
    for size in between:
        sizes.append(_rounded(request, sizes[-1], size, facts))
    return (*sizes[1:], last)


def doublings_of(request: Request, below: Size, size: Size, facts: ModelFacts) -> int:
    """How often the model's network doubles the latents of the guide of a stage with ``upsampling="learned"``.

    The rest of the factor between the picture below and the stage is resampled in pixels; by at most ``MOST_SHRUNK`` it
    may be shrunk, because sizes are rounded. Where the picture wraps, both canvases must need no padding.
    """
    wrap, unit = request.wrapped_axes, wrapped_unit(facts)
    most = _most_doublings(request, below, size)
    return next((times for times in range(most, 0, -1) if wrap.rounded(size, unit * 2**times) == size), 0)


def _most_doublings(request: Request, below: Size, size: Size) -> int:
    """How often the factor between two pictures alone would let latents be doubled."""
    if request.method.upsampling != "learned":
        return 0
    return max(1, int(size.factor_over(below) * MOST_SHRUNK)).bit_length() - 1


def _rounded(request: Request, below: Size, size: Size, facts: ModelFacts) -> Size:
    """The size of an intermediate stage, rounded so that it can wrap and its latents be doubled as often as possible.

    They are doubled less often if the stage would otherwise be stretched too much.
    """
    wrap, unit = request.wrapped_axes, wrapped_unit(facts)
    for times in range(_most_doublings(request, below, size), 0, -1):
        for found in _multiples_near(size, wrap, unit * 2**times):
            stretched = _stretches(below, found) or _stretches(found, request.size)
            if not stretched and doublings_of(request, below, found, facts) == times:
                return found
    return wrap.rounded(size, unit)


def _multiples_near(size: Size, wrap: Wrap, multiple: int) -> list[Size]:
    """The sizes around a size whose sides are multiples on the axes that wrap, the nearest first."""

    def sides(side: int, wraps: bool) -> list[int]:
        least = max(1, side // multiple) * multiple
        return [least, least + multiple] if wraps else [side]

    found = [Size(width, height) for width in sides(size.width, wrap.x) for height in sides(size.height, wrap.y)]
    return sorted(found, key=lambda near: math.hypot(near.width / size.width - 1, near.height / size.height - 1))


def _stretches(before: Size, after: Size) -> bool:
    """Whether the aspect ratios of two pictures that wrap differ by too much to stretch one to the other."""
    return abs(before.width * after.height / (before.height * after.width) - 1) > WRAPPED_SHAPES


def wrapped_unit(facts: ModelFacts) -> int:
    """The multiple of pixels that sides must have if the picture wraps, so that the canvas needs no padding."""
    return facts.latent_scale * facts.latent_multiple


def check_wrap(request: Request, facts: ModelFacts, start: Size | None, sizes: Sequence[Size]) -> None:
    """Raise ``RequestError`` if the picture cannot wrap, or would no longer wrap because it must be cropped.

    Also raises it if a stage's size does not let its guide be made by doubling latents, as requested.
    """
    wrap, unit = request.wrapped_axes, wrapped_unit(facts)
    if not wrap:
        return
    if STRATEGIES[request.method.strategy].dilated:
        raise RequestError(f"wrap: {request.method.strategy} samples the whole canvas at once; choose another strategy")
    if request.method.coverage == "random":
        # A base is one patch, whatever the coverage.
        _check_random(wrap, facts, sizes if start else sizes[1:])
    given = [start] if start else []
    # With latent upsampling the given picture is encoded at its own size.
    for size in [*(given if request.method.upsampling == "latent" else []), *sizes]:
        if wrap.rounded(size, unit) != size:
            raise RequestError(
                f"wrap: {facts.name} needs sides that are multiples of {unit} pixels where a picture wraps, got "
                f"{size}; the nearest is {wrap.rounded(size, unit)}"
            )
    for before, after in pairwise([*given, *sizes, request.size]):
        if _stretches(before, after):
            raise RequestError(
                f"wrap: a picture that wraps cannot be cropped to another aspect ratio, from {before} to {after}; "
                "give sizes of one aspect ratio"
            )
    for below, size in pairwise([*given, *sizes]):
        if _most_doublings(request, below, size) and not doublings_of(request, below, size, facts):
            raise RequestError(
                f"wrap: with --upsampling learned {facts.name} needs sides that are multiples of {2 * unit} pixels "
                f"where a picture wraps, got {size}; the nearest is {wrap.rounded(size, 2 * unit)}"
            )


def _check_random(wrap: Wrap, facts: ModelFacts, sizes: Sequence[Size]) -> None:
    """Raise ``RequestError`` if a patch at a random position would meet itself, at edges that nothing blends."""
    least = facts.native_size
    for size in sizes:
        if (wrap.x and size.width <= least.width) or (wrap.y and size.height <= least.height):
            raise RequestError(
                f"wrap: random coverage needs stages longer than a patch of {least} where they wrap, got {size}; give "
                "--coverage grid"
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
    """Two, three, ... times the origin's sides, and the target."""
    factor = target.factor_over(origin)
    if factor > MAX_STAGES:
        raise RequestError(
            f"size: from {origin} to {target} there are {math.ceil(factor):,} multiples, each a stage; expected at "
            f"most {MAX_STAGES}; give fewer with --cascade"
        )
    return (*(target.scaled(multiple / factor) for multiple in range(2, math.ceil(factor))), target)


def base_size(target: Size, native: Size, wrap: Wrap = NO_WRAP, unit: int = 1) -> Size:
    """The model's native area in the target's aspect ratio, which is limited to 4:1.

    A base that wraps cannot be cropped, so it has the target's aspect ratio without a limit, and sides that are
    multiples of ``unit`` on the axes that wrap.
    """
    most = math.inf if wrap else MAX_SHAPE
    shape = min(max(target.width / target.height, 1 / most), most)
    size = Size(max(1, round(math.sqrt(native.area * shape))), max(1, round(math.sqrt(native.area / shape))))
    return wrap.rounded(size, unit)
