"""Base pictures of many prompts in one batch, equal to those that ``generate`` makes one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.config.recommended import StageMethod
from pixelsmith.engine.conditions import Conditions, guided_denoiser
from pixelsmith.engine.texture import Texture
from pixelsmith.families import Family, Prompt, everywhere
from pixelsmith.geometry import Size
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.samplers import SAMPLERS, Move
from pixelsmith.sampling.schedule import Level
from training.autoencoder import as_pixels


@dataclass(frozen=True)
class Shot:
    """One picture to make."""

    prompt: str
    seed: int
    negative_prompt: str = ""


@torch.inference_mode()
def denoised(
    family: Family, shots: Sequence[Shot], method: StageMethod, start: int = 0, latents: Tensor | None = None
) -> Iterator[Tensor]:
    """The latents (n, c, h, w) at each of the n + 1 levels of n steps, from noise to clean.

    From level ``start`` on if ``latents`` (n, c, h, w) at that level are given.
    """
    size, patch, levels = family.facts.native_size, family.facts.patch, family.schedule(method.schedule_steps).levels
    x = initial(family, shots, levels[0]) if latents is None else latents
    encoded = [family.encode(shot.prompt, shot.negative_prompt) for shot in shots]
    positive, negative = (_stacked(prompts) for prompts in zip(*encoded, strict=True))
    conditions = Conditions([("", "")], [everywhere(positive)], [everywhere(negative)])
    denoiser = guided_denoiser(family, conditions, method, size)
    yield x
    previous: Tensor | None = None
    for i, (t, s) in islice(enumerate(pairwise(levels)), start, None):
        clean = denoiser(x, t, [patch.window] * len(shots))
        fresh = partial(_fresh, family, shots, i)
        x = SAMPLERS[method.sampler].move(Move(x, clean, t, s, previous, levels[i - 1] if i > start else None, fresh))
        previous = clean
        yield x


def initial(family: Family, shots: Sequence[Shot], level: Level) -> Tensor:
    """The noise (n, c, h, w) that pictures begin with, at the first level."""
    window = family.facts.patch.window
    noises = [family.base_noise(shot.seed, family.facts.patch).read(window) for shot in shots]
    return math.hypot(level.alpha, level.sigma) * torch.stack(noises).to(family.device)


@torch.inference_mode()
def pictures(family: Family, shots: Sequence[Shot], method: StageMethod) -> NDArray[np.uint8]:
    """The pictures (n, H, W, 3)."""
    *_, latents = denoised(family, shots, method)
    return decoded(family, latents.cpu(), [shot.seed for shot in shots], method.texture)


def decoded(family: Family, latents: Tensor, seeds: Sequence[int], strength: float) -> NDArray[np.uint8]:
    """The pictures (n, H, W, 3) of latents (n, c, h, w), with the texture of base pictures of these seeds."""
    pixels, (height, width) = family.autoencoder.decode(latents), latents.shape[-2:]
    whole = Size(width, height).window
    for values, seed in zip(pixels, seeds, strict=True):
        if texture := Texture.of(family, seed, 0, strength):
            texture.add_to(values, whole, texture.noise_of(whole))
    return as_pixels(pixels)


def _fresh(family: Family, shots: Sequence[Shot], step: int) -> Tensor:
    """The noise (n, c, h, w) that the sampler adds in a step."""
    fields = [NoiseField(shot.seed, 0, family.facts.latent_channels, Purpose.STEP, step) for shot in shots]
    return torch.stack([field.read(family.facts.patch.window) for field in fields]).to(family.device)


def _stacked(prompts: Sequence[Prompt]) -> Prompt:
    """Join prompts for one picture each into one for a batch."""
    return {name: torch.cat([prompt[name] for prompt in prompts]) for name in prompts[0]}
