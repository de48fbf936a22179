"""Request + model facts -> the stages and what they cost: plain arithmetic, nothing is loaded or run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.plans import Plan, StagePlan
from pixelsmith.config.recommended import StageMethod
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.errors import RequestError
from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.pixels.region_masks import layers_of
from pixelsmith.sampling.grid import ShiftedGrid, TileLayout
from pixelsmith.sampling.merging import MERGES
from pixelsmith.sampling.patches import dilation, fewest_patches
from pixelsmith.sampling.regional import estimates_per_patch, owners_of
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.scattered import COVERAGES, RandomCoverage

MAX_SHAPE = 4.0
"""The longest base picture, long side to short one; longer pictures use the middle of it."""
WRAPPED_SHAPES = 0.1
"""By what share the shapes of pictures that wrap may differ: they are rounded, and stretched in place of cut."""
ROUND = 0.25
"""Sides of the model's patch that a base which wraps is padded round by, so that its edges see each other."""
MAX_STAGES = 400
"""Of a strategy that takes every multiple of the base."""
PAPER_BORDER, PAPER_PATCH = 10, 128
FILE_BYTES = 4.2
"""A pixel of a picture file, at most: three bytes that do not compress, and a third more for the pyramid."""
MEMORY_LIMIT = 256 << 20
"""Bytes of canvases and pictures up to which they are kept in memory."""
NETWORK_BYTES = 16 << 10
"""What a network takes at least for each latent of a canvas that goes through it at once."""
LIBRARIES = 700_000_000
"""Bytes of a process that has loaded all libraries, and of what it holds of one batch or tile on the host."""
DILATED_COPIES = 12
"""Whole canvases (float32) that dilated sampling holds: state, guide, noise, their fusion, blurred, sampled."""
SAMPLE_SIDE = 1024
LARGE_CANVAS = SAMPLE_SIDE**2
"""Latents above which random coverage is counted on one step of a canvas of this size and scaled up by the area: its
count a patch varies by about 1 % there."""


@dataclass(frozen=True)
class Numbers:
    """How a model computes: bytes of a number of its network and of its autoencoder, and patches in a call."""

    network: int = 4
    autoencoder: int = 4
    batch_size: int = 1


_FLOAT32 = Numbers()


def make_plan(request: Request, facts: ModelFacts, start: Size | None = None, numbers: Numbers = _FLOAT32) -> Plan:
    """Plan a request for a model; ``start`` is the size in pixels of the picture to start from, if one is given.

    Raises ``RequestError`` where the cascade would shrink, a border does not fit into the model's patch, a tile is too
    small for the autoencoder's context, the network cannot be perturbed, or there is no captioner or no text encoder
    for captions or regions, or the strategy has one prompt for all.
    """
    tile = _tile_side(request, facts)
    if request.method.perturbation and not facts.perturbable:
        raise RequestError(
            f"perturbation: how to perturb the network of {facts.name} ({facts.pipeline}) is not known; leave it out"
        )
    border = border_of(request, facts)
    steps = max(request.method.at(stage, facts.recommended).schedule_steps for stage in (0, 1))
    if steps > facts.train_steps:
        raise RequestError(f"steps: the model has {facts.train_steps} training steps, the schedule asks for {steps}")
    if 3 * border > min(facts.patch.width, facts.patch.height):
        raise RequestError(
            f"border: expected at most a third of the model's patch of {facts.patch} latents, got {border}"
        )
    first = request.cascade[0] if request.cascade else request.size
    native = STRATEGIES[request.method.strategy].native_base
    wrap, unit = Wrap.named(request.wrap), wrapped_unit(facts)
    origin = start or (base_size(first, facts.native_size, wrap, unit) if native else request.size)
    base = None if start else _single_patch_plan(origin, request, facts)
    sizes = cascade_of(request, origin, start, facts)
    _check_wrap(request, facts, start, sizes if base is None else (base.size, *sizes))
    stages = tuple(_stage_plan(i, len(sizes), size, request, facts) for i, size in enumerate(sizes, 1))
    base, stages = _with_regions(base, stages, request, facts)
    _check_control(request)
    rungs = [stage for stage in (base, *stages) if stage is not None]
    calls = sum(_calls(stage, request.method.at(1, facts.recommended)) for stage in stages)
    calls += _calls(base, request.method.at(0, facts.recommended)) if base else 0
    canvases = _canvas_bytes(rungs, request, facts)
    on_disk = canvases > MEMORY_LIMIT
    captions = _captions(stages, request, facts)
    return Plan(
        base=base,
        stages=stages,
        model_calls=round(calls),
        on_disk=on_disk,
        peak_memory_bytes=facts.parameters * numbers.network
        + facts.quantised_bytes
        + _working_set(rungs, request, facts, numbers, tile)
        + ((facts.captioner_parameters or 0) * numbers.network if captions else 0)
        + (0 if on_disk else canvases),
        canvas_bytes=canvases,
        file_bytes=round(request.size.area * FILE_BYTES),
        captions=captions,
    )


def _with_regions(
    base: StagePlan | None, stages: tuple[StagePlan, ...], request: Request, facts: ModelFacts
) -> tuple[StagePlan | None, tuple[StagePlan, ...]]:
    """The rungs with the prompts that patches of theirs have. Raises ``RequestError`` where regions cannot be shown."""
    if not request.regions:
        return base, stages
    if STRATEGIES[request.method.strategy].dilated:
        raise RequestError(
            f"regions: {request.method.strategy} samples all of the canvas at once, with one prompt; choose another "
            "strategy"
        )
    if request.compute.memory == "encoders-released":
        raise RequestError(
            "memory: encoders-released forgets the text encoders after one prompt, regions have their own; choose "
            "another way"
        )
    rungs = ({} if base is None else {0: base}) | dict(enumerate(stages, start=1))
    shown = {number: rung for number, rung in rungs.items() if len(request.texts(number)) > 1}
    if not shown:
        raise RequestError("regions: there are no stages to show them in; leave out regions_in")
    sizes = {number: rung.size for number, rung in rungs.items()}
    layers = layers_of(request.regions, request.size, sizes, facts.latent_scale, Wrap.named(request.wrap))
    for number, rung in shown.items():
        patch = facts.patch if number else rung.latent_size
        prompts, negatives = (
            estimates_per_patch(layers[number], owners_of(texts), rung.latent_size, patch)
            for texts in zip(*request.texts(number), strict=True)
        )
        rungs[number] = replace(rung, prompts=prompts, negatives=negatives)
    return rungs.pop(0, None), tuple(rungs.values())


def _check_control(request: Request) -> None:
    if request.control_images and STRATEGIES[request.method.strategy].dilated:
        raise RequestError(
            f"control: {request.method.strategy} samples all of the canvas at once, of which a control picture shows "
            "no part; choose another strategy"
        )


def _calls(rung: StagePlan, method: StageMethod) -> float:
    """Evaluations of the network in a rung."""
    return rung.patches_per_step * method.calls(prompts=rung.prompts, negatives=rung.negatives)


def _captions(stages: tuple[StagePlan, ...], request: Request, facts: ModelFacts) -> int:
    """Places that are captioned: as many as patches tile the canvases of the stages (``engine.words.Cells``)."""
    if request.method.at(1, facts.recommended).captions == "off":
        return 0
    if stages and request.compute.memory == "encoders-released":
        raise RequestError(
            "memory: encoders-released forgets the text encoders, which captions need in every stage; choose another "
            "way, or --captions off"
        )
    if stages and facts.captioner_parameters is None:
        raise RequestError(
            f"captions: {facts.name} has no captioner of its own; give one with --captions MODEL, or off"
        )
    return sum(stage.fewest_patches_per_step for stage in stages)


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
    wrap = Wrap.named(request.wrap)
    return (*(wrap.rounded(size, wrapped_unit(facts)) for size in between), last)


def wrapped_unit(facts: ModelFacts) -> int:
    """Pixels that sides of a picture are multiples of where it wraps: a canvas must end where its picture does."""
    return facts.latent_scale * facts.latent_multiple


def _check_wrap(request: Request, facts: ModelFacts, start: Size | None, sizes: Sequence[Size]) -> None:
    """Raise ``RequestError`` where a picture cannot wrap, or would not after it was cut."""
    wrap, unit = Wrap.named(request.wrap), wrapped_unit(facts)
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


def border_of(request: Request, facts: ModelFacts) -> int:
    """The border in latents: as asked, or as wide for this model's patch as the paper's 10 are for 128."""
    if request.method.border is not None:
        return request.method.border
    return max(1, min(facts.patch.width, facts.patch.height) * PAPER_BORDER // PAPER_PATCH)


def coverage_of(stage: int, canvas: Size, request: Request, facts: ModelFacts) -> ShiftedGrid | RandomCoverage:
    """Which patches move the canvas of stage ``stage`` (from 1)."""
    wrap, half_overlap = Wrap.named(request.wrap), STRATEGIES[request.method.strategy].half_overlap
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
    wrap, more = Wrap.named(request.wrap), _whole(math.ceil(ROUND * max(facts.patch.width, facts.patch.height)), facts)
    return ShiftedGrid(canvas, wrap.padded(canvas, more), more if wrap else 0, request.seed, 0, wrap)


def _whole(latents: int, facts: ModelFacts) -> int:
    """So many latents or a few more: as many as the network can take."""
    return -(-latents // facts.latent_multiple) * facts.latent_multiple


def _single_patch_plan(size: Size, request: Request, facts: ModelFacts) -> StagePlan:
    canvas = facts.latent_size(size)
    patches = max(1, base_coverage(canvas, request, facts).patch.area // facts.patch.area)
    return StagePlan(size, canvas, request.method.at(0, facts.recommended).steps, 0, patches, 1)


def _stage_plan(stage: int, stages: int, size: Size, request: Request, facts: ModelFacts) -> StagePlan:
    method, canvas = request.method, facts.latent_size(size)
    own, strategy = method.at(stage, facts.recommended, stages), STRATEGIES[method.strategy]
    steps, weights = own.steps, strategy.weights(own)
    fewest = fewest_patches(canvas, facts.patch)
    if method.coverage == "random" and canvas.area > LARGE_CANVAS:
        sample = Size(min(canvas.width, SAMPLE_SIDE), min(canvas.height, SAMPLE_SIDE))
        count = coverage_of(stage, sample, request, facts).count(0) * canvas.area / sample.area
    else:
        coverage = coverage_of(stage, canvas, request, facts)
        count = fmean(coverage.count(step) for step in range(steps))
    count += dilation(canvas, facts.patch) ** 2 if strategy.dilated else 0
    guided = sum(weight > 0 for weight in weights)
    return StagePlan(size, canvas, steps, guided, count, fewest)


def _canvas_bytes(rungs: list[StagePlan], request: Request, facts: ModelFacts) -> int:
    """All pictures with their overviews; of the largest rung also the guide, a map and the canvases of two steps.

    Patches and tiles are kept one by one, each with room for the largest of them.
    """
    remembers = SAMPLERS[request.method.at(0, facts.recommended).sampler].remembers
    wrap = Wrap.named(request.wrap)
    tiled = [_tiles_area(rung.latent_size, facts.tiling, wrap) for rung in rungs]
    patches = [rung.patches_per_step * facts.patch.area for rung in rungs]
    of_map = 1 / facts.latent_channels
    latents = max(tile * (1 + of_map) + patch * 2 * (1 + remembers) for tile, patch in zip(tiled, patches, strict=True))
    pictures = 3 * (facts.latent_scale**2 + 1) * sum(tiled)
    shown = 4 * facts.latent_channels if facts.control_latents else 3 * facts.latent_scale**2
    pictures += shown * max(tiled) * len(request.control_images)
    if request.unrounded:
        # Four bytes for one of each value of the last one.
        pictures += 9 * facts.latent_scale**2 * tiled[-1]
    return round(latents * facts.latent_channels * 4) + pictures


def _tiles_area(canvas: Size, tiling: TileLayout, wrap: Wrap) -> int:
    """Latents that the tiles of a canvas have room for."""
    tiles = tiling.tiles(canvas, wrap)
    return len(tiles) * tiles.largest.area


def _working_set(rungs: list[StagePlan], request: Request, facts: ModelFacts, numbers: Numbers, tile: int) -> int:
    """The libraries, the larger of one batch and one tile, and what is held of a whole canvas.

    Measured: docs/decisions/0006-memory.md, 0034-devices-as-they-are.md.
    """
    strategy, a_latent = STRATEGIES[request.method.strategy], 0
    if request.method.coverage == "random":
        # A step's pixels in random order, and each patch's weights.
        a_latent += 28
    if strategy.dilated:
        a_latent += DILATED_COPIES * 4 * facts.latent_channels
    of_patch = facts.patch_values * numbers.network
    if not strategy.native_base:
        a_latent += max(NETWORK_BYTES, of_patch)
    canvas, largest = max(rung.latent_size.area for rung in rungs), Size(tile, tile)
    batch = numbers.batch_size * min(facts.patch.area, canvas) * of_patch
    pixels = min(largest.area, canvas) * facts.latent_scale**2
    return a_latent * canvas + LIBRARIES + max(batch, pixels * facts.tile_values * numbers.autoencoder)


def _tile_side(request: Request, facts: ModelFacts) -> int:
    """Latents a side that the autoencoder computes at once, at most."""
    asked, scale, least = request.compute.tile, facts.latent_scale, facts.tiling.least
    if asked is None:
        return facts.tiling.side
    if asked < least * scale:
        raise RequestError(f"tile: the autoencoder of {facts.name} needs {least * scale} pixels or more, got {asked}")
    return min(facts.tiling.side, asked // scale)
