"""One rung of the cascade: upsample, encode, denoise, decode. The base picture is a rung without a guide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from pixelsmith.canvas import MemoryCanvas
from pixelsmith.events import Observer, PhaseFinished, Progress, Warned
from pixelsmith.families import Family
from pixelsmith.geometry import Size
from pixelsmith.pixels.codec import decode, encode, quantised
from pixelsmith.pixels.resample import Resized
from pixelsmith.plan import coverage_of
from pixelsmith.request import Request
from pixelsmith.sampling.denoise import Canvas, Denoising, Guide, Readable
from pixelsmith.sampling.fusion import FUSIONS
from pixelsmith.sampling.guidance import ClassifierFreeGuidance, Denoiser
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.patches import Coverage, ShiftedGrid
from pixelsmith.sampling.slider import guide_weights

AUTO_BATCH = {"cpu": 4}
"""Patches per call where none is asked for; other devices take 8. A larger batch gains nothing on a CPU."""


@dataclass(frozen=True)
class Rung:
    """A finished picture (3, H, W) uint8, and the latents it was decoded from (``None`` for a picture from a file)."""

    picture: Readable
    latents: Readable | None


@dataclass(frozen=True)
class Cascade:
    """What all rungs of one request share."""

    request: Request
    family: Family
    denoiser: Denoiser
    observer: Observer

    @classmethod
    def of(cls, request: Request, family: Family, observer: Observer) -> Cascade:
        """Encode the prompts; guidance wraps the denoiser where it is ever on."""
        method = request.method
        for prompt in (request.prompt, request.negative_prompt):
            if unread := family.unread(prompt):
                observer(Warned(f"the model has no room for the end of the prompt: {unread!r} is not read"))
        denoiser = family.denoiser(request.prompt, request.size)
        if any(method.guides_at(step / method.steps) for step in range(method.steps)):
            negative = family.denoiser(request.negative_prompt, request.size)
            denoiser = ClassifierFreeGuidance(
                denoiser, negative, method.guidance_scale, method.guidance_rescale, method.guides_at
            )
        return cls(request, family, denoiser, observer)

    def base(self, size: Size) -> Rung:
        """The model's own picture: one patch as large as the canvas, no guide (stage 0)."""
        canvas = self.family.facts.latent_size(size)
        return self._denoised(0, size, ShiftedGrid(canvas, canvas, 0, self.request.seed, 0), None)

    def stage(self, stage: int, below: Rung, size: Size) -> Rung:
        """A larger picture guided by the one below; ``stage`` counts from 1."""
        facts, method = self.family.facts, self.request.method
        canvas = facts.latent_size(size)
        guide = Guide(
            latents=self._guide_latents(stage, below, size),
            weights=guide_weights(method.steps, method.slider, method.slider_fade),
            fusion=FUSIONS[method.fusion],
            chess_mask=method.chess_mask,
        )
        return self._denoised(stage, size, coverage_of(stage, canvas, self.request, facts), guide)

    def _guide_latents(self, stage: int, below: Rung, size: Size) -> Readable:
        """The clean guide z_g: the enlarged picture encoded, or the enlarged latents."""
        upsampling, scale = self.request.method.upsampling, self.family.facts.latent_scale
        if upsampling == "latent":
            # A padded canvas reaches past the picture: it goes on there as the picture's edge.
            endless = Resized(below.picture, below.picture.size, below.picture.size, "bicubic")
            latents = below.latents or self._encoded(stage, endless, below.picture.size)
            return Resized(latents, below.picture.size, size, "bicubic", unit=scale)
        return self._encoded(stage, Resized(below.picture, below.picture.size, size, upsampling), size)

    def _encoded(self, stage: int, picture: Resized, size: Size) -> Canvas:
        facts = self.family.facts
        latents = MemoryCanvas(facts.latent_channels, facts.latent_size(size))
        with self._phase(stage, "encode") as on_tile:
            encode(picture, facts.latent_scale, self.family.autoencoder, latents, partial(on_tile, 0))
        return latents

    def _denoised(self, stage: int, size: Size, coverage: Coverage, guide: Guide | None) -> Rung:
        facts, request, family = self.family.facts, self.request, self.family
        denoising = Denoising(
            denoiser=self.denoiser,
            schedule=family.schedule(request.method.steps),
            coverage=coverage,
            noise=NoiseField(request.seed, stage, facts.latent_channels),
            seed=request.seed,
            stage=stage,
            guide=guide,
            second_order=request.method.sampler == "dpmpp-2m",
        )
        batch_size = request.compute.batch_size or AUTO_BATCH.get(family.device.type, 8)
        with self._phase(stage, "denoise") as on_batch:
            latents = denoising.run(
                lambda: MemoryCanvas(facts.latent_channels, facts.latent_size(size)),
                batch_size,
                family.device,
                on_batch,
            )
        with self._phase(stage, "decode") as on_tile:
            new_picture = partial(MemoryCanvas, 3)
            pixels = decode(latents, facts.latent_scale, family.autoencoder, size, new_picture, partial(on_tile, 0))
            picture = quantised(pixels, MemoryCanvas(3, size, torch.uint8))
        return Rung(picture, latents)

    @contextmanager
    def _phase(self, stage: int, phase: str) -> Iterator[Callable[[int, int, int], None]]:
        """Report a phase: what is yielded hears (step from 0, done, total); the end is timed."""
        steps = self.request.method.steps if phase == "denoise" else 1
        began = time.monotonic()
        yield lambda step, done, total: self.observer(Progress(stage, phase, step + 1, steps, done, total))
        self.observer(PhaseFinished(stage, phase, time.monotonic() - began))
