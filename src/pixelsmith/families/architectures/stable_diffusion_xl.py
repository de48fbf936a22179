"""SDXL and its few-step variants: two text encoders, conditioned on the picture's size and a patch's position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, brought, repeated
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


class StableDiffusionXL:
    name = "SDXL"
    pipelines = ("StableDiffusionXLPipeline",)
    native = "1024 pixels; SDXL-Turbo 512"
    needs = "U-Net of 2.6 billion parameters, two CLIP text encoders"
    upcasts_vae = True
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        multiple = 2 ** (len(configs["unet"]["block_out_channels"]) - 1)
        best = recommended_for(configs, Recommended(20, guidance_scale=5.0))
        perturbable = attends_in_the_middle(configs)
        return Traits(
            unet_native(configs),
            multiple,
            best,
            perturbable=perturbable,
            controlnet="ControlNetModel",
            image_encoder=CLIP,
        )

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer_2, pipeline.tokenizer_2.model_max_length

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, negative_prompt=negative_prompt)
        return named(("encoder_hidden_states", "text_embeds"), found[::2], found[1::2])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return schedule_of(scheduler, steps)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        timestep = repeated(level.timestep, x)
        conditions: dict[str, Any] = {
            "encoder_hidden_states": prompt["encoder_hidden_states"],
            "added_cond_kwargs": {
                "text_embeds": prompt["text_embeds"],
                "time_ids": brought(time_ids(scene), x.device),
            },
        }
        added = controlled(scene, x, timestep, **conditions)
        conditions["added_cond_kwargs"] |= image_conditions(scene)
        output: Tensor = pipeline.unet(
            x,
            timestep,
            **conditions,
            timestep_cond=guidance_embedding(pipeline, x, scene.guidance_scale),
            **added,
            return_dict=False,
        )[0]
        return output


def time_ids(scene: Scene) -> Tensor:
    """(b, 6): original size, top left corner of the crop, target size, rows first (arXiv 2307.01952, section 2.2).

    Both sizes are the whole picture's, and a patch is a crop of it. They are always float32, because bfloat16 cannot
    represent 30,001, and float16 nothing beyond 65,504.
    """
    size = (scene.picture.height, scene.picture.width)
    rows = [(*size, window.top, window.left, *size) for window in scene.windows]
    return torch.tensor(rows, dtype=torch.float32)


ARCHITECTURE = StableDiffusionXL()
