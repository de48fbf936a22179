"""Stable Diffusion 1.x and 2.x, and all models in their format: one U-Net, one text encoder, ε, v or x0 prediction."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.image_prompts import CLIP
from pixelsmith.families.shared.schedules import schedule_of
from pixelsmith.families.shared.unet import (
    attends_in_the_middle,
    controlled,
    guidance_embedding,
    image_conditions,
    recommended_for,
    unet_native,
)
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule


class StableDiffusion:
    name = "Stable Diffusion 1.x, 2.x"
    pipelines = ("StableDiffusionPipeline", "LatentConsistencyModelPipeline")
    native = "512 or 768 pixels; SD-Turbo 512"
    needs = "U-Net of 0.9 billion parameters, CLIP"
    upcasts_vae = False
    optional = ("safety_checker",)

    def traits(self, configs: Configs) -> Traits:
        multiple = 2 ** (len(configs["unet"]["block_out_channels"]) - 1)
        best = recommended_for(configs, Recommended(20, guidance_scale=7.5))
        # The pipeline of diffusers does not support this class of autoencoder.
        stock = configs["vae"]["_class_name"] != "AutoencoderDC"
        perturbable = attends_in_the_middle(configs)
        return Traits(
            unet_native(configs), multiple, best, perturbable=perturbable, controlnet="ControlNetModel",
            image_encoder=CLIP, stock_seeds=stock,
        )  # fmt: skip

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, pipeline.tokenizer.model_max_length

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, pipeline._execution_device, 1, True, negative_prompt)
        return named(("encoder_hidden_states",), found[:1], found[1:])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return schedule_of(scheduler, steps)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        told = guidance_embedding(pipeline, x, scene.guidance_scale)
        timestep = repeated(level.timestep, x)
        added = controlled(scene, x, timestep, **prompt)
        seen = image_conditions(scene) or None
        output: Tensor = pipeline.unet(
            x, timestep, **prompt, timestep_cond=told, added_cond_kwargs=seen, **added, return_dict=False
        )[0]
        return output


ARCHITECTURE = StableDiffusion()
