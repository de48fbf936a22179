"""Stable Diffusion 1.x and 2.x, and all models in their format: one U-Net, one text encoder, ε, v or x0 prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from torch import Tensor

from pixelsmith.families.autoencoder import DiffusersAutoencoder
from pixelsmith.families.quiet import quiet
from pixelsmith.geometry import Size, Window
from pixelsmith.plan import ModelFacts
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.schedule import Level, Schedule


class StableDiffusion:
    """A ``StableDiffusionPipeline`` as a ``Family``."""

    def __init__(self, pipeline: DiffusionPipeline, facts: ModelFacts) -> None:
        self._pipeline: Any = pipeline
        self.facts = facts
        self.device: torch.device = self._pipeline.unet.device
        self.autoencoder = DiffusersAutoencoder(self._pipeline.vae)

    def schedule(self, steps: int) -> Schedule:
        """The levels of DDIM with the model's own betas, spacing of timesteps and final alpha."""
        scheduler: Any = DDIMScheduler.from_config(self._pipeline.scheduler.config)
        scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps.tolist()
        last = len(scheduler.alphas_cumprod) - 1
        squares = [float(scheduler.alphas_cumprod[min(t, last)]) for t in timesteps]
        squares.append(float(scheduler.final_alpha_cumprod))
        return Schedule(
            tuple(
                Level(alpha=square**0.5, sigma=(1 - square) ** 0.5, timestep=float(t), progress=i / steps)
                for i, (square, t) in enumerate(zip(squares, [*timesteps, 0], strict=True))
            )
        )

    def unread(self, prompt: str) -> str:
        """The end of a prompt that the text encoder has no room for."""
        tokenizer = self._pipeline.tokenizer
        with quiet():
            ids = tokenizer(prompt).input_ids[1:-1]
            return str(tokenizer.decode(ids[tokenizer.model_max_length - 2 :]))

    def denoiser(self, prompt: str, picture: Size) -> Denoiser:
        """The U-Net told this prompt; these models do not ask for the picture's size."""
        with quiet():
            embeddings, _ = self._pipeline.encode_prompt(prompt, self.device, 1, do_classifier_free_guidance=False)
        return _UNetDenoiser(self._pipeline.unet, embeddings, self._pipeline.scheduler.config.prediction_type)


@dataclass(frozen=True)
class _UNetDenoiser:
    unet: Any
    embeddings: Tensor
    prediction_type: str

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        embeddings = self.embeddings.expand(len(x), -1, -1)
        output = self.unet(x.to(self.unet.dtype), level.timestep, embeddings, return_dict=False)[0].float()
        return clean_estimate(output, x, level, self.prediction_type)


def clean_estimate(output: Tensor, x: Tensor, level: Level, prediction_type: str) -> Tensor:
    """x̂0 from the network's output: noise ε, velocity ``v = α·ε − σ·z`` (arXiv 2202.00512), or x̂0 itself."""
    if prediction_type == "epsilon":
        return (x - level.sigma * output) / level.alpha
    if prediction_type == "v_prediction":
        return level.alpha * x - level.sigma * output
    return output
