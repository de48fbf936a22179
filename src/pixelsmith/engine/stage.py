"""One rung of the cascade: upsample, encode, denoise, decode. The base picture is a rung without a guide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch

from pixelsmith.canvas import Space, WithOverview
from pixelsmith.config.plans import Plan
from pixelsmith.config.recommended import Perturbation, StageMethod
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.engine import Executor, Serial
from pixelsmith.engine.bands import FittedBands, low_pass_bands
from pixelsmith.engine.codec import TILE, decode, encode
from pixelsmith.engine.conditions import Conditions
from pixelsmith.engine.control import Controlled, control_of
from pixelsmith.engine.denoise import Denoising, Guide, Patched
from pixelsmith.engine.dilated import Dilated
from pixelsmith.engine.pieces import InPieces
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.engine.remarks import remarks_on
from pixelsmith.engine.seldom import Seldom
from pixelsmith.engine.texture import Texture
from pixelsmith.engine.words import Cells, Words, joined
from pixelsmith.errors import RefusedError, RequestError
from pixelsmith.events import Observer, PhaseFinished, Progress, Warned
from pixelsmith.families import Captioner, Family, Prompt, PromptAt, everywhere
from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.pixels.region_masks import layers_of
from pixelsmith.pixels.resample import Resized
from pixelsmith.pixels.slider_map import flatness_map, slider_map
from pixelsmith.planning.planner import base_coverage, coverage_of
from pixelsmith.sampling.denoiser import Denoiser
from pixelsmith.sampling.grid import Grid
from pixelsmith.sampling.guidance import Away, EpsilonScaled, Guided
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.merging import MERGES, Bands, Lead
from pixelsmith.sampling.noise import NoiseField, repeated
from pixelsmith.sampling.patches import Coverage, Tiling, dilation
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.regional import Layers
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.schedule import Schedule
from pixelsmith.system.memory import give_back_memory

MOST_PATCHES, CPU_LATENTS = 8, 8192
"""Of a call where no number is asked for. More latents at once gain nothing on a CPU, but take memory."""


def batch_size_of(request: Request, device: torch.device, patch: Size) -> int:
    """Patches of this size per call: as asked, or what suits the device."""
    return request.compute.batch_size or batch_size_on(device.type, patch)


def batch_size_on(device: str, patch: Size) -> int:
    """Patches of this size per call that suit a kind of device."""
    suits = max(1, CPU_LATENTS // patch.area) if device == "cpu" else MOST_PATCHES
    return min(MOST_PATCHES, suits)


@dataclass(frozen=True)
class Rung:
    """A finished picture (3, H, W) uint8, and the latents it was decoded from where the rung above needs them."""

    picture: Readable
    latents: Readable | None


@dataclass(frozen=True)
class Cascade:
    """What all rungs of one request share. What they make is kept in ``space``; what is there is not made again.

    ``methods``: what each rung is denoised with, by its number. ``captioner``: what says what the places of a picture
    show; ``None`` where no one asks. ``executor``: what does the work of its phases. ``regions``: both prompts of each
    region of the request; ``layers``: where regions lie on the canvas of each rung. ``controls``: the control pictures
    of each rung.
    """

    request: Request
    family: Family
    methods: Mapping[int, StageMethod]
    encode: PromptEncoder
    prompts: tuple[Prompt, Prompt]
    observer: Observer
    space: Space
    captioner: Captioner | None = None
    executor: Executor = field(default_factory=Serial)
    regions: Sequence[tuple[Prompt, Prompt]] = ()
    layers: Mapping[int, Layers] = field(default_factory=dict)
    controls: Mapping[int, Sequence[Resized]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        request: Request,
        family: Family,
        the_plan: Plan,
        observer: Observer,
        space: Space,
        captioner: Captioner | None = None,
        executor: Executor | None = None,
    ) -> Cascade:
        """Encode the prompts and the negative prompts, and say what of the request will not show.

        Raises ``RequestError`` where the model has no schedule for a rung, or cannot be guided so, before anything is
        made.
        """
        stages = len(the_plan.stages)
        rungs = range(0 if the_plan.base else 1, stages + 1)
        methods = {rung: request.method.at(rung, family.facts.recommended, stages) for rung in rungs}
        for own in methods.values():
            schedule = _schedule(family, own)
            if own.guides and GUIDANCES[own.guidance].of_velocities and not schedule.is_flow:
                raise RequestError(f"guidance: {own.guidance} is for flow matching, which this model is not made by")
        for remark in remarks_on(request, family, methods.values()):
            observer(Warned(remark))
        texts = request.texts(stages)
        encode = PromptEncoder.of(request, family)
        encoded = {pair: encode(*pair) for pair in dict.fromkeys(texts)}
        sizes = ({0: the_plan.base.size} if the_plan.base else {}) | {
            number: stage.size for number, stage in enumerate(the_plan.stages, start=1)
        }
        prompts, *regions = (encoded[pair] for pair in texts)
        scale, wrap = family.facts.latent_scale, Wrap.named(request.wrap)
        layers = layers_of(request.regions, request.size, sizes, scale, wrap) if regions else {}
        controls = control_of(request.control_images, request.size, sizes, wrap)
        executor = executor or Serial()
        return cls(
            request, family, methods, encode, prompts, observer, space, captioner, executor, regions, layers, controls
        )

    def base(self, size: Size) -> Rung:
        """The model's own picture: one patch as large as the canvas, or larger where it wraps, no guide (stage 0).

        Raises ``RefusedError`` where the model has a safety checker that refuses it.
        """
        coverage = base_coverage(self.family.facts.latent_size(size), self.request, self.family.facts)
        rung = self._denoised(0, size, coverage, lambda: None, lambda: self._uncaptioned(0))
        if self.family.refuses(rung.picture):
            raise RefusedError(
                "the model's safety checker refuses the base picture of this prompt and seed; a folder of the model "
                "without its safety_checker is not checked"
            )
        return rung

    def stage(self, stage: int, below: Rung, size: Size) -> Rung:
        """A larger picture guided by the one below; ``stage`` counts from 1."""
        facts, method = self.family.facts, self.request.method

        def guide() -> Guide:
            strategy, own = STRATEGIES[method.strategy], self.methods[stage]
            factor = size.factor_over(below.picture.size)
            merge = strategy.merge_of(own)
            moderates = own.slider_map == "auto" and "slider_map" not in MERGES[merge].unused
            flatness = flatness_map(below.picture, size, facts.latent_scale, self.wrap) if moderates else None
            lead = Lead(
                weights=strategy.weights(own),
                positions=slider_map(own.slider_map, own.slider, size, facts.latent_scale, self.wrap),
                bands=self._bands(factor),
                factor=factor,
                flatness=flatness and self._map(stage, "flatness", flatness),
                chess_mask=own.chess_mask,
            )
            return Guide(self._guide_latents(stage, below, size), MERGES[merge].made_of(lead))

        coverage = coverage_of(stage, facts.latent_size(size), self.request, facts)
        return self._denoised(stage, size, coverage, guide, partial(self._prompts_at, stage, below, size))

    def _encoded_texts(self, stage: int) -> Sequence[tuple[Prompt, Prompt]]:
        """Both prompts of the picture, and of each region that the stage shows."""
        return [self.prompts, *self.regions][: len(self.request.texts(stage))]

    def _uncaptioned(self, stage: int) -> list[PromptAt]:
        """The prompt of the picture, and that of each region that the stage shows, as they were asked for."""
        return [everywhere(prompt) for prompt, _ in self._encoded_texts(stage)]

    def _prompts_at(self, stage: int, below: Rung, size: Size) -> list[PromptAt]:
        """The same for each patch: with what the picture below shows there, where there is a captioner."""
        request, captioner = self.request, self.captioner
        if captioner is None:
            return self._uncaptioned(stage)
        cells = Cells(self.family.facts.latent_size(size), self.family.facts.patch)
        enlarged = Resized(below.picture, below.picture.size, size, "lanczos", wrap=self.wrap)
        captions = self.space.texts(
            f"stage-{stage}/captions", lambda: self._captions(stage, enlarged, cells, captioner)
        )
        layers = [Words(cells, [joined(caption, prompt) for caption in captions]) for prompt, _ in request.texts(stage)]
        prompts = dict.fromkeys(prompt for words in layers for prompt in words.prompts)
        if not request.prompt_weighting and any(self.family.unread(prompt) for prompt in prompts):
            self.observer(Warned("the model has no room for the end of the prompt behind some of the captions"))
        encoded = {prompt: self.encode(prompt, request.negative_prompt)[0] for prompt in prompts}
        return [partial(_worded, words, encoded) for words in layers]

    def _captions(self, stage: int, enlarged: Resized, cells: Cells, captioner: Captioner) -> Iterator[str]:
        """What the enlarged picture shows at each cell: one by one, so that no text depends on its neighbours."""
        with self._phase(stage, "caption") as on_place:
            for done, cell in enumerate(cells, start=1):
                yield from captioner(enlarged.read(cell.scaled(self.family.facts.latent_scale))[None])
                on_place(0, done, len(cells))

    def _map(self, stage: int, name: str, source: Readable) -> Readable:
        """A map (1, h, w) of the canvas, kept: every step reads it."""
        tiles = self._tiles(source.size)
        return _filled(self.space.open(f"stage-{stage}/{name}", tiles, 1), tiles, source)

    def _bands(self, factor: float) -> Bands:
        """What is known of a picture by one that is so many times smaller."""
        upsampling = self.request.method.upsampling
        if upsampling == "latent":
            return low_pass_bands(factor)
        return FittedBands(self.family.autoencoder, self.family.facts.latent_scale, factor, upsampling)

    def _guide_latents(self, stage: int, below: Rung, size: Size) -> Readable:
        """The clean guide z_g: the enlarged picture encoded, or the enlarged latents."""
        upsampling, scale = self.request.method.upsampling, self.family.facts.latent_scale
        if upsampling == "latent":
            # A padded canvas reaches past the picture: it goes on there as the picture's edge.
            endless = Resized(below.picture, below.picture.size, below.picture.size, "bicubic", wrap=self.wrap)
            latents = below.latents or self._encoded(stage, endless, below.picture.size)
            return Resized(latents, below.picture.size, size, "bicubic", unit=scale, wrap=self.wrap)
        enlarged = Resized(below.picture, below.picture.size, size, upsampling, wrap=self.wrap)
        return self._encoded(stage, enlarged, size)

    def _encoded(
        self, stage: int, picture: Resized, size: Size, name: str = "guide", phase: str = "encode"
    ) -> Readable:
        """A picture as latents, which are kept by this ``name``."""
        facts = self.family.facts
        tiles = self._tiles(facts.latent_size(size))
        latents = self.space.open(f"stage-{stage}/{name}", tiles, facts.latent_channels)
        with self._phase(stage, phase) as on_tile:
            scale = facts.latent_scale
            encode(picture, scale, self.autoencoder, latents, partial(on_tile, 0), self.executor, self.wrap)
        return latents

    def _denoised(
        self,
        stage: int,
        size: Size,
        coverage: Coverage,
        guide: Callable[[], Guide | None],
        prompts_at: Callable[[], Sequence[PromptAt]],
    ) -> Rung:
        """Denoise and decode what is not there yet, then forget all that nothing above needs."""
        picture, device = self._new_picture(stage, size), self.family.device
        keeps_latents = self.request.method.upsampling == "latent"
        latents: Readable | None = None
        if keeps_latents or not picture.complete:
            denoising = self._denoising(stage, size, coverage, prompts_at(), guide())
            steps = StageSteps(self.space, stage, denoising.channels)
            with self._phase(stage, "denoise") as on_batch:
                latents = denoising.run(steps, self._batch_size, device, on_batch, self.executor, self._fills(stage))
            # Its noise takes memory that the decoder has use for.
            del denoising
            with self._phase(stage, "decode") as on_tile:
                texture = self._texture(stage, size)
                decode(latents, self.autoencoder, picture, partial(on_tile, 0), self.executor, texture, self.wrap)
        if not keeps_latents:
            self._forget(stage)
        return Rung(picture.picture, latents if keeps_latents else None)

    def _texture(self, stage: int, size: Size) -> Texture | None:
        texture = Texture.of(self.family, self.request.seed, stage, self.methods[stage].texture)
        return texture and texture.on(size, self.wrap)

    def _denoising(
        self, stage: int, size: Size, coverage: Coverage, prompts_at: Sequence[PromptAt], guide: Guide | None
    ) -> Denoising:
        denoiser = self._denoiser(stage, size, prompts_at)
        seed, facts = self.request.seed, self.family.facts
        canvas = facts.latent_size(size)
        keyed = NoiseField(seed, stage, facts.latent_channels, rows=Size(canvas.width, facts.patch.height))
        noise = keyed if stage else self.family.base_noise(seed, canvas)
        return Denoising(
            denoiser=denoiser,
            schedule=_schedule(self.family, self.methods[stage]),
            coverage=coverage,
            noise=repeated(noise, canvas, self.wrap),
            seed=seed,
            stage=stage,
            guide=guide,
            rule=SAMPLERS[self.methods[stage].sampler],
            dilated=self._dilated(stage, size),
            wrap=self.wrap,
        )

    def _denoiser(self, stage: int, size: Size, prompts_at: Sequence[PromptAt]) -> Denoiser:
        negatives = [everywhere(negative) for _, negative in self._encoded_texts(stage)]
        texts, layers = self.request.texts(stage), self.layers.get(stage)
        conditions = Conditions(texts, prompts_at, negatives, layers if len(texts) > 1 else None)
        if shown := self._control(stage, size):
            facts = self.family.facts
            scale = 1 if facts.control_latents else facts.latent_scale
            conditions = conditions.extended(partial(Controlled, pictures=shown, scale=scale, wrap=self.wrap))
        return guided_denoiser(self.family, conditions, self.methods[stage], size)

    def _control(self, stage: int, size: Size) -> Sequence[Readable]:
        """The control pictures of a stage, kept: every step reads them."""
        facts, found = self.family.facts, []
        tiles = self._tiles(facts.latent_size(size)).scaled(facts.latent_scale)
        for number, source in enumerate(self.controls.get(stage, ())):
            name = f"control-{number}"
            if facts.control_latents:
                found.append(self._encoded(stage, source, size, name, "control"))
            else:
                kept = self.space.open(f"stage-{stage}/{name}", tiles, 3, torch.uint8)
                found.append(_filled(kept, tiles, source))
        return found

    def _dilated(self, stage: int, size: Size) -> Dilated | None:
        facts = self.family.facts
        if stage == 0 or not STRATEGIES[self.request.method.strategy].dilated:
            return None
        # Its samples show the whole canvas, and so does the prompt.
        denoiser = self._denoiser(stage, size, self._uncaptioned(stage))
        return Dilated(denoiser, dilation(facts.latent_size(size), facts.patch), facts.latent_multiple)

    def _forget(self, stage: int) -> None:
        """Drop what led to a finished picture."""
        for name in ("guide", "flatness", *(f"control-{i}" for i in range(len(self.controls.get(stage, ()))))):
            self.space.drop(f"stage-{stage}/{name}")
        steps = StageSteps(self.space, stage, 0)
        for step in range(1, self.methods[stage].steps + 1):
            steps.drop(step)

    def _new_picture(self, stage: int, size: Size) -> WithOverview:
        """The picture of a stage and its overview, a pixel for each latent."""
        facts = self.family.facts
        tiles = self._tiles(facts.latent_size(size))
        small = size.padded(facts.latent_scale).divided(facts.latent_scale)
        unrounded = self.request.unrounded and stage == max(self.methods)
        dtype = torch.float32 if unrounded else torch.uint8
        return WithOverview(
            self.space.open(f"stage-{stage}/picture", tiles.scaled(facts.latent_scale), 3, dtype, size),
            self.space.open(f"stage-{stage}/overview", tiles, 3, torch.uint8, small),
            facts.latent_scale,
        )

    def _fills(self, stage: int) -> bool:
        """Whether batches are filled up: each size is a graph of a compiled network. The base is one patch."""
        return stage > 0 and self.request.compute.compile

    @property
    def wrap(self) -> Wrap:
        """On which axes all its pictures and canvases wrap."""
        return Wrap.named(self.request.wrap)

    def _tiles(self, canvas: Size) -> Grid:
        return self.family.autoencoder.tiling.tiles(canvas, self.wrap)

    @property
    def autoencoder(self) -> InPieces:
        """The family's, on no more of a tile at once than was asked for and there is memory for."""
        scale, asked = self.family.facts.latent_scale, self.request.compute.tile
        return InPieces(self.family.autoencoder, scale, self._warn_of_pieces, asked and asked // scale)

    def _warn_of_pieces(self, side: int) -> None:
        what = f"the device has no memory for {TILE}; going on with pieces of {side} pixels a side"
        self.observer(Warned(what))

    @property
    def _batch_size(self) -> int:
        return batch_size_of(self.request, self.family.device, self.family.facts.patch)

    @contextmanager
    def _phase(self, stage: int, phase: str) -> Iterator[Callable[[int, int, int], None]]:
        """Report a phase: what is yielded hears (step from 0, done, total); the end is timed."""
        steps = self.methods[stage].steps if phase == "denoise" else 1
        began = time.monotonic()
        give_back_memory()
        yield lambda step, done, total: self.observer(Progress(stage, phase, step + 1, steps, done, total))
        self.observer(PhaseFinished(stage, phase, time.monotonic() - began))


def guided_denoiser(family: Family, conditions: Conditions, method: StageMethod, picture: Size) -> Denoiser:
    """The denoiser of each patch's prompts, and what it is pushed away from where that is ever on."""
    scale, aways = method.guidance_scale, []

    def made(prompt_at: PromptAt, perturbation: Perturbation | None = None) -> Denoiser:
        return family.denoiser(prompt_at, picture, scale, perturbation)

    positive = conditions.positive(made)
    if method.guides:
        unwanted = conditions.negative(made)
        aways.append(Away(unwanted, scale, method.guides_at, GUIDANCES[method.guidance].combine))
    if method.perturbation:
        worse = conditions.positive(partial(made, perturbation=method.perturbation))
        # Of n + s·(p − n) the push is s − 1 times the difference.
        aways.append(Away(worse, 1 + method.perturbation.scale, method.perturbs_at))
    guided = Guided(positive, aways, method.guidance_rescale) if aways else positive
    return guided if method.epsilon_scaling == 1 else EpsilonScaled(guided, method.epsilon_scaling)


def _filled(kept: Patched, tiles: Grid, source: Readable) -> Readable:
    """A canvas with all of a source, tile by tile."""
    sync = Seldom(kept.sync)
    for (index,) in kept.missing():
        kept.put(index, source.read(tiles[index].window))
        sync()
    kept.sync()
    return kept


def _worded(words: Words, encoded: Mapping[str, Prompt], window: Window) -> Prompt:
    """The prompt of a patch."""
    return encoded[words.at(window)]


def _schedule(family: Family, own: StageMethod) -> Schedule:
    """The levels that a rung goes through. Raises ``RequestError`` where the model has none of so many steps."""
    return family.schedule(own.schedule_steps).last(own.steps)


@dataclass(frozen=True)
class StageSteps:
    """The canvases of a stage's steps in the space."""

    space: Space
    stage: int
    channels: int

    def open(self, step: int, tiling: Tiling) -> Patched:
        return self.space.open(self._name(step), tiling, self.channels)

    def __contains__(self, step: int) -> bool:
        return self._name(step) in self.space

    def drop(self, step: int) -> None:
        self.space.drop(self._name(step))

    def _name(self, step: int) -> str:
        return f"stage-{self.stage}/step-{step}"
