"""Stable Diffusion 3 and 3.5: flow matching, a transformer, two CLIP text encoders and T5, which may be absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Control, Scene, Traits, repeated
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.blocks import added
from pixelsmith.families.shared.image_prompts import SIGLIP
from pixelsmith.families.shared.schedules import flow_schedule, schedule_of
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

ROOM = 256
"""The pipeline's token limit of T5."""


class StableDiffusion3:
    name = "Stable Diffusion 3, 3.5"
    pipelines = ("StableDiffusion3Pipeline",)
    native = "1024 pixels"
    needs = "transformer of 2 to 8 billion parameters, two CLIP text encoders, T5-XXL (can be left out)"
    upcasts_vae = False
    optional = ("text_encoder_3", "tokenizer_3")

    def traits(self, configs: Configs) -> Traits:
        network = configs["transformer"]
        side = network["sample_size"]
        best = Recommended(28, guidance_scale=7.0)
        return Traits(
            Size(side, side), network["patch_size"], best, perturbable=True,
            controlnet="SD3ControlNetModel", image_encoder=SIGLIP,
        )  # fmt: skip

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        if pipeline.text_encoder_3 is not None:
            return pipeline.tokenizer_3, ROOM
        return pipeline.tokenizer, pipeline.tokenizer.model_max_length

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, None, None, negative_prompt=negative_prompt, max_sequence_length=ROOM)
        return named(("encoder_hidden_states", "pooled_projections"), found[::2], found[1::2])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        if not scheduler.get("use_dynamic_shifting"):
            return schedule_of(scheduler, steps)
        return flow_schedule(scheduler, steps, patch.area // 4, sigmas=None)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        timestep = repeated(level.timestep, x)
        said = [_said(pipeline, control, x, timestep, prompt) for control in scene.controls]
        blocks = len(pipeline.transformer.transformer_blocks)
        output: Tensor = pipeline.transformer(
            x,
            timestep=timestep,
            **prompt,
            block_controlnet_hidden_states=added(said, lambda i, count: i * count // blocks, blocks),
            joint_attention_kwargs={"ip_adapter_image_embeds": scene.images[0]} if scene.images else None,
            return_dict=False,
        )[0]
        return output


def _said(pipeline: Any, control: Control, x: Batch, timestep: Tensor, prompt: Prompt) -> Sequence[Tensor]:
    """The residuals of a ControlNet for the network's blocks; its configuration selects the parts of the prompt."""
    config, picture = control.network.config, control.picture
    conditions = dict(prompt)
    if config.force_zeros_for_pooled_projection:
        # Those were trained without the shift of the latents as well.
        conditions["pooled_projections"] = torch.zeros_like(prompt["pooled_projections"])
        picture = picture + pipeline.vae.config.shift_factor * pipeline.vae.config.scaling_factor
    if config.joint_attention_dim is None:
        del conditions["encoder_hidden_states"]
    found: Sequence[Tensor] = control.network(
        x,
        controlnet_cond=picture,
        conditioning_scale=control.scale,
        timestep=timestep,
        **conditions,
        return_dict=False,
    )[0]
    return found


ARCHITECTURE = StableDiffusion3()
