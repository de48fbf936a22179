"""The plan of a request: its stages, patches and memory, from the request and facts of the model by arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.plans import Plan, StagePlan
from pixelsmith.config.recommended import StageMethod
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.errors import RequestError
from pixelsmith.geometry import Size, Wrap
from pixelsmith.pixels.region_masks import layers_of
from pixelsmith.planning.coverages import base_coverage, border_of, coverage_of
from pixelsmith.planning.stage_sizes import base_size, cascade_of, check_wrap, doublings_of, wrapped_unit
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.patches import dilation, fewest_patches
from pixelsmith.sampling.regional import estimates_per_patch, owners_of
from pixelsmith.sampling.samplers import SAMPLERS

FILE_BYTES = 4.2
"""Bytes per pixel of a picture file, at most: three incompressible bytes, and a third more for the pyramid."""
MEMORY_LIMIT = 256 << 20
"""The total size of canvases and pictures, in bytes, up to which they are kept in memory instead of on disk."""
NETWORK_BYTES = 16 << 10
"""The least memory of a network per latent, in bytes, if a whole canvas is computed at once."""
LIBRARIES = 700_000_000
"""Memory of a process after it has loaded all libraries, and of one batch or tile on the host, in bytes."""
DILATED_COPIES = 12
"""Whole float32 canvases in memory during dilated sampling: state, guide, noise, fused, blurred, sampled."""
SAMPLE_SIDE = 1024
LARGE_CANVAS = SAMPLE_SIDE**2
"""For larger canvases the patches of random coverage are counted in one step of a canvas of this area, and scaled by
the area; the count varies by about 1 %."""


def no_bytes(size: Size, below: Size) -> int:
    """For results that are not stored."""
    return 0


def no_tiles(size: Size, below: Size) -> tuple[int, ...]:
    """For a model without an upsampler."""
    return ()


@dataclass(frozen=True)
class Numbers:
    """Bytes per number in the network and in the autoencoder, and patches per batch.

    ``exchanged``: bytes for each weight of which there is a second value for the stages, where that is in the device's
    memory. With an upsampler also the bytes of its weights and of one of its tiles, and for the size of a stage and
    that of the picture below it ``upsampled_bytes``, those of the canvases for its results, and ``upsampled_tiles``,
    the tiles of each of its passes.
    """

    network: int = 4
    autoencoder: int = 4
    batch_size: int = 1
    exchanged: int = 0
    upsampler_bytes: int = 0
    upsampler_tile_bytes: int = 0
    upsampled_bytes: Callable[[Size, Size], int] = no_bytes
    upsampled_tiles: Callable[[Size, Size], tuple[int, ...]] = no_tiles


_FLOAT32 = Numbers()


def make_plan(request: Request, facts: ModelFacts, start: Size | None = None, numbers: Numbers = _FLOAT32) -> Plan:
    """Plan a request for a model; ``start`` is the size in pixels of the picture to start from, if one is given.

    Raises ``RequestError`` if the cascade would shrink, the border does not fit into the model's patch, the tile is too
    small for the autoencoder's context, the network cannot be perturbed, captions or regions lack a captioner or text
    encoders, or the strategy supports only one prompt.
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
    wrap, unit = request.wrapped_axes, wrapped_unit(facts)
    origin = start or (base_size(first, facts.native_size, wrap, unit) if native else request.size)
    base = None if start else _single_patch_plan(origin, request, facts)
    sizes = cascade_of(request, origin, start, facts)
    _check_upsampling(request, facts, sizes)
    check_wrap(request, facts, start, sizes if base is None else (base.size, *sizes))
    stages = tuple(_stage_plan(i, len(sizes), size, request, facts) for i, size in enumerate(sizes, 1))
    stages = tuple(
        _enlarged(stage, below, request, facts, numbers) for below, stage in zip((origin, *sizes), stages, strict=False)
    )
    base, stages = _with_regions(base, stages, request, facts)
    _check_control(request)
    rungs = [stage for stage in (base, *stages) if stage is not None]
    calls = sum(_calls(stage, request.method.at(1, facts.recommended)) for stage in stages)
    calls += _calls(base, request.method.at(0, facts.recommended)) if base else 0
    canvases = _canvas_bytes(rungs, 0 if base else 1, request, facts)
    canvases += max(map(numbers.upsampled_bytes, sizes, [origin, *sizes[:-1]]), default=0)
    on_disk = canvases > MEMORY_LIMIT
    captions = _captions(stages, request, facts)
    return Plan(
        base=base,
        stages=stages,
        model_calls=round(calls),
        on_disk=on_disk,
        peak_memory_bytes=facts.parameters * numbers.network
        + facts.exchanged_parameters * numbers.exchanged
        + facts.quantised_bytes
        + (numbers.upsampler_bytes if stages else 0)
        + _working_set(rungs, request, facts, numbers, tile)
        + ((facts.captioner_parameters or 0) * numbers.network if captions else 0)
        + (0 if on_disk else canvases),
        canvas_bytes=canvases,
        file_bytes=round(request.size.area * FILE_BYTES),
        captions=captions,
        encoded_controls=len(request.control_images) if facts.control_latents else 0,
    )


def _with_regions(
    base: StagePlan | None, stages: tuple[StagePlan, ...], request: Request, facts: ModelFacts
) -> tuple[StagePlan | None, tuple[StagePlan, ...]]:
    """The stages with their mean number of prompts per patch. Raises ``RequestError`` if regions cannot be used."""
    if not request.regions:
        return base, stages
    if STRATEGIES[request.method.strategy].dilated:
        raise RequestError(
            f"regions: {request.method.strategy} samples the whole canvas at once, with one prompt; choose another "
            "strategy"
        )
    if request.compute.memory == "encoders-released":
        raise RequestError(
            "memory: encoders-released frees the text encoders after one prompt, but regions have prompts of their "
            "own; choose another memory mode"
        )
    rungs = ({} if base is None else {0: base}) | dict(enumerate(stages, start=1))
    shown = {number: rung for number, rung in rungs.items() if len(request.texts(number)) > 1}
    if not shown:
        raise RequestError("regions: there are no stages to show them in; leave out regions_in")
    sizes = {number: rung.size for number, rung in rungs.items()}
    layers = layers_of(request.regions, request.size, sizes, facts.latent_scale, request.wrapped_axes)
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
            f"control: {request.method.strategy} samples the whole canvas at once, which control pictures do not "
            "support; choose another strategy"
        )


def _check_upsampling(request: Request, facts: ModelFacts, sizes: Sequence[Size]) -> None:
    if sizes and request.method.upsampling == "learned" and not facts.doubles_latents:
        raise RequestError(
            f"upsampling: {facts.name} has no network that enlarges latents, or not for this autoencoder; choose "
            "lanczos, bicubic or latent"
        )


def _calls(rung: StagePlan, method: StageMethod) -> float:
    """Evaluations of the network in a stage."""
    return rung.patches_per_step * method.calls(prompts=rung.prompts, negatives=rung.negatives)


def _captions(stages: tuple[StagePlan, ...], request: Request, facts: ModelFacts) -> int:
    """The number of captions: as many as patches that tile the canvases of the stages (``engine.words.Cells``)."""
    if request.method.at(1, facts.recommended).captions == "off":
        return 0
    if stages and request.compute.memory == "encoders-released":
        raise RequestError(
            "memory: encoders-released frees the text encoders, which captions need in every stage; choose another "
            "memory mode, or --captions off"
        )
    if stages and facts.captioner_parameters is None:
        raise RequestError(
            f"captions: {facts.name} has no captioner of its own; give one with --captions MODEL, or off"
        )
    return sum(stage.fewest_patches_per_step for stage in stages)


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


def _enlarged(stage: StagePlan, below: Size, request: Request, facts: ModelFacts, numbers: Numbers) -> StagePlan:
    """The stage with what enlarges the picture below it: the model's network for latents, or else an upsampler."""
    if doublings := doublings_of(request, below, stage.size, facts):
        return replace(stage, doublings=doublings)
    return replace(stage, upsampled_tiles=numbers.upsampled_tiles(stage.size, below))


def _canvas_bytes(rungs: list[StagePlan], first: int, request: Request, facts: ModelFacts) -> int:
    """The size of all pictures and overviews, and of the guide, a map and two steps' canvases of the largest stage.

    ``first``: the number of the first of ``rungs``, 0 for the base. Patches and tiles are stored one by one, each in a
    slot as large as the largest of them.
    """
    methods = [request.method.at(number, facts.recommended) for number, _ in enumerate(rungs, first)]
    copies = [2 * (1 + SAMPLERS[method.sampler].remembers) for method in methods]
    wrap = request.wrapped_axes
    tiled = [_tiles_area(rung.latent_size, facts.tiling, wrap) for rung in rungs]
    patches = [rung.patches_per_step * facts.patch.area for rung in rungs]
    of_map = 1 / facts.latent_channels
    latents = max(tile * (1 + of_map) + patch * n for tile, patch, n in zip(tiled, patches, copies, strict=True))
    pictures = 3 * (facts.latent_scale**2 + 1) * sum(tiled)
    shown = 4 * facts.latent_channels if facts.control_latents else 3 * facts.latent_scale**2
    pictures += shown * max(tiled) * len(request.control_images)
    if request.unrounded:
        # The last picture has four bytes per value instead of one.
        pictures += 9 * facts.latent_scale**2 * tiled[-1]
    return round(latents * facts.latent_channels * 4) + pictures


def _tiles_area(canvas: Size, tiling: TileLayout, wrap: Wrap) -> int:
    """The latents in the slots of a canvas's tiles."""
    tiles = tiling.tiles(canvas, wrap)
    return len(tiles) * tiles.largest.area


def _working_set(rungs: list[StagePlan], request: Request, facts: ModelFacts, numbers: Numbers, tile: int) -> int:
    """The memory of the libraries, of one batch or one tile, whichever is largest, and of whole canvases.

    Measured: docs/decisions/0006-memory.md, 0034-devices-as-they-are.md.
    """
    strategy, a_latent = STRATEGIES[request.method.strategy], 0
    if request.method.coverage == "random":
        # The shuffled pixels of a step, and the weights of each patch.
        a_latent += 28
    if strategy.dilated:
        a_latent += DILATED_COPIES * 4 * facts.latent_channels
    of_patch = facts.patch_values * numbers.network
    if not strategy.native_base:
        a_latent += max(NETWORK_BYTES, of_patch)
    canvas, largest = max(rung.latent_size.area for rung in rungs), Size(tile, tile)
    batch = numbers.batch_size * min(facts.patch.area, canvas) * of_patch
    pixels = min(largest.area, canvas) * facts.latent_scale**2
    of_tile = pixels * facts.tile_values * numbers.autoencoder
    return a_latent * canvas + LIBRARIES + max(batch, of_tile, numbers.upsampler_tile_bytes)


def _tile_side(request: Request, facts: ModelFacts) -> int:
    """The largest side in latents that the autoencoder computes at once."""
    asked, scale, least = request.compute.tile, facts.latent_scale, facts.tiling.least
    if asked is None:
        return facts.tiling.side
    if asked < least * scale:
        raise RequestError(f"tile: the autoencoder of {facts.name} needs {least * scale} pixels or more, got {asked}")
    return min(facts.tiling.side, asked // scale)
