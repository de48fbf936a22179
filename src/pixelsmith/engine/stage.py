"""The cascade: each stage upsamples, encodes, denoises and decodes. The base picture is a stage without a guide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from pixelsmith.canvas import Space, WithOverview
from pixelsmith.config.plans import Plan
from pixelsmith.config.recommended import StageMethod
from pixelsmith.config.request import Request
from pixelsmith.engine.codec import decode
from pixelsmith.engine.control import control_of
from pixelsmith.engine.denoise import Denoising, Guide, Patched
from pixelsmith.engine.inputs import Rung, StageInputs
from pixelsmith.engine.prompts import PromptEncoder
from pixelsmith.engine.remarks import remarks_on
from pixelsmith.errors import RefusedError, RequestError
from pixelsmith.events import Observer, Warned
from pixelsmith.families import Captioner, Family, PromptAt, Upsampler
from pixelsmith.geometry import Size
from pixelsmith.pixels.region_masks import layers_of
from pixelsmith.planning.coverages import base_coverage, coverage_of
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.noise import NoiseField, repeated
from pixelsmith.sampling.patches import Coverage, Tiling
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.schedule import Schedule

MOST_PATCHES, CPU_LATENTS = 8, 8192
"""Default batch size, and latents per batch on a CPU, where larger batches take memory and save no time."""


def batch_size_of(request: Request, device: torch.device, patch: Size) -> int:
    """The number of patches in a batch: as requested, or by the device and the patch size."""
    return request.compute.batch_size or batch_size_on(device.type, patch)


def batch_size_on(device: str, patch: Size) -> int:
    """The default batch size for a kind of device and a patch size."""
    suits = max(1, CPU_LATENTS // patch.area) if device == "cpu" else MOST_PATCHES
    return min(MOST_PATCHES, suits)


@dataclass(frozen=True)
class Cascade(StageInputs):
    """The base picture and the stages of a request, each denoised and decoded from its inputs."""

    @classmethod
    def of(
        cls,
        request: Request,
        family: Family,
        the_plan: Plan,
        observer: Observer,
        space: Space,
        captioner: Captioner | None = None,
        upsampler: Upsampler | None = None,
    ) -> Cascade:
        """Encode the prompts and warn about settings that have no effect. The cascade has a serial executor.

        Raises ``RequestError`` if the model has no schedule for the steps, or cannot use the kind of guidance.
        """
        stages = len(the_plan.stages)
        rungs = range(0 if the_plan.base else 1, stages + 1)
        methods = {rung: request.method.at(rung, family.facts.recommended, stages) for rung in rungs}
        for own in methods.values():
            schedule = _schedule(family, own)
            if own.guides and GUIDANCES[own.guidance].of_velocities and not schedule.is_flow:
                raise RequestError(f"guidance: {own.guidance} is for flow-matching models, which this model is not")
        doublings = sum(stage.doublings for stage in the_plan.stages)
        for remark in remarks_on(request, family, methods.values(), doublings):
            observer(Warned(remark))
        texts = request.texts(stages)
        encode = PromptEncoder.of(request, family)
        encoded = {pair: encode(*pair) for pair in dict.fromkeys(texts)}
        sizes = ({0: the_plan.base.size} if the_plan.base else {}) | {
            number: stage.size for number, stage in enumerate(the_plan.stages, start=1)
        }
        prompts, *regions = (encoded[pair] for pair in texts)
        scale, wrap = family.facts.latent_scale, request.wrapped_axes
        layers = layers_of(request.regions, request.size, sizes, scale, wrap) if regions else {}
        controls = control_of(request.control_images, request.size, sizes, wrap)
        return cls(
            request,
            family,
            methods,
            encode,
            prompts,
            observer,
            space,
            captioner=captioner,
            upsampler=upsampler,
            regions=regions,
            layers=layers,
            controls=controls,
        )

    def base(self, size: Size) -> Rung:
        """Generate the base picture (stage 0): without a guide, in one patch that covers the canvas.

        Raises ``RefusedError`` if the model's safety checker refuses the picture.
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
        """Generate a larger picture, guided by the previous stage; ``stage`` counts from 1."""
        facts = self.family.facts
        coverage = coverage_of(stage, facts.latent_size(size), self.request, facts)
        guide = partial(self._guide, stage, below, size)
        return self._denoised(stage, size, coverage, guide, partial(self._prompts_at, stage, below, size))

    def _denoised(
        self,
        stage: int,
        size: Size,
        coverage: Coverage,
        guide: Callable[[], Guide | None],
        prompts_at: Callable[[], Sequence[PromptAt]],
    ) -> Rung:
        """Denoise and decode what is missing, then delete what later stages do not need."""
        picture, device = self._new_picture(stage, size), self.family.device
        keeps_latents = self.request.method.upsampling == "latent"
        latents: Readable | None = None
        if keeps_latents or not picture.complete:
            denoising = self._denoising(stage, size, coverage, prompts_at(), guide())
            steps = StageSteps(self.space, stage, denoising.channels)
            with self._phase(stage, "denoise") as on_batch:
                latents = denoising.run(steps, self._batch_size, device, on_batch, self.executor, self._fills(stage))
            # Its cached noise takes memory that the decoder needs.
            del denoising
            with self._phase(stage, "decode") as on_tile:
                texture = self._texture(stage, size)
                decode(latents, self.autoencoder, picture, partial(on_tile, 0), self.executor, texture, self.wrap)
        if not keeps_latents:
            self._forget(stage)
        return Rung(picture.picture, latents if keeps_latents else None)

    def _denoising(
        self, stage: int, size: Size, coverage: Coverage, prompts_at: Sequence[PromptAt], guide: Guide | None
    ) -> Denoising:
        shown = self._shown(stage, size)
        seed, facts = self.request.seed, self.family.facts
        canvas = facts.latent_size(size)
        keyed = NoiseField(seed, stage, facts.latent_channels, rows=Size(canvas.width, facts.patch.height))
        noise = keyed if stage else self.family.base_noise(seed, canvas)
        return Denoising(
            denoiser=self._denoiser(stage, size, prompts_at, shown),
            schedule=_schedule(self.family, self.methods[stage]),
            coverage=coverage,
            noise=repeated(noise, canvas, self.wrap),
            seed=seed,
            stage=stage,
            guide=guide,
            rule=SAMPLERS[self.methods[stage].sampler],
            dilated=self._dilated(stage, size),
            wrap=self.wrap,
            reads=None if shown is None else shown.reads,
        )

    def _forget(self, stage: int) -> None:
        """Delete the intermediate canvases of a finished picture."""
        controls = (f"control-{i}" for i in range(len(self.controls.get(stage, ()))))
        for name in ("guide", "small-guide", "flatness", *controls):
            self.space.drop(f"stage-{stage}/{name}")
        steps = StageSteps(self.space, stage, 0)
        for step in range(1, self.methods[stage].steps + 1):
            steps.drop(step)

    def _new_picture(self, stage: int, size: Size) -> WithOverview:
        """The canvas for the picture of a stage and its overview, which has one pixel per latent."""
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
        """Whether batches are padded: a compiled network is compiled again for each size. The base is one patch."""
        return stage > 0 and self.request.compute.compile

    @property
    def _batch_size(self) -> int:
        return batch_size_of(self.request, self.family.device, self.family.facts.patch)


def _schedule(family: Family, own: StageMethod) -> Schedule:
    """The noise levels of a stage. Raises ``RequestError`` if the model has no schedule of so many steps."""
    return family.schedule(own.schedule_steps).last(own.steps)


@dataclass(frozen=True)
class StageSteps:
    """The canvases of a stage's steps, stored in a space."""

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
