"""Families with a U-Net."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionXLPipeline,
)
from torch import Tensor

from tests.tiny import build_autoencoder, build_stable_diffusion, build_unet
from tests.zoo.specimen import Specimen, Stock, usual_call
from tests.zoo.text import WIDTH, clip, encoders

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def build_xl(scheduler: Any, second: int = WIDTH) -> StableDiffusionXLPipeline:
    """Two text encoders of 16 and ``second`` channels, pooled 32, six time ids of 8 channels."""
    unet = build_unet(
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=WIDTH + second,
    )
    return StableDiffusionXLPipeline(
        vae=build_autoencoder(),
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
        **encoders(clip(), clip(projection=32, seed=1, width=second)),
    )


def build_lcm() -> LatentConsistencyModelPipeline:
    """A U-Net that takes its guidance scale as an input."""
    unet = build_unet(time_cond_proj_dim=8)
    parts = {**build_stable_diffusion().components, "unet": unet, "scheduler": LCMScheduler(**BETAS)}
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def call_lcm(pipeline: Any, stock: Stock) -> Tensor:
    height, width = stock.size
    images: Tensor = pipeline(
        stock.prompt, height, width, stock.steps, guidance_scale=stock.scale, latents=stock.noise,
        generator=stock.generator, output_type=stock.output,
    ).images  # fmt: skip
    return images


def call_trailing(pipeline: Any, stock: Stock) -> Tensor:
    """The scheduler's first step noises by its largest σ/α; a canvas starts with unit variance."""
    if stock.noise is None:
        raise ValueError("the noise of a seed is not scaled so")
    pipeline.scheduler.set_timesteps(stock.steps)
    ratio = float(pipeline.scheduler.sigmas[0])
    scaled = stock.noise * (1 + ratio**2) ** 0.5 / ratio
    return usual_call(pipeline, replace(stock, noise=scaled))


LEADING = {"timestep_spacing": "leading", "steps_offset": 1}
SPECIMENS = [
    *(
        Specimen(kind, "StableDiffusionPipeline", partial(build_stable_diffusion, prediction_type=kind), usual_call)
        for kind in ("epsilon", "v_prediction", "sample")
    ),
    Specimen("lcm", "LatentConsistencyModelPipeline", build_lcm, call_lcm, steps=1, scale=8.5),
    Specimen(
        "sdxl",
        "StableDiffusionXLPipeline",
        lambda: build_xl(EulerDiscreteScheduler(**BETAS, **LEADING)),
        usual_call,
    ),
    Specimen(
        "sdxl-turbo",
        "StableDiffusionXLPipeline",
        lambda: build_xl(EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing")),
        call_trailing,
        steps=1,
        scale=1.0,
        draws=False,
    ),
    Specimen(
        "sdxl-lightning",
        "StableDiffusionXLPipeline",
        lambda: build_xl(EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing")),
        call_trailing,
        scale=1.0,
        draws=False,
    ),
]
