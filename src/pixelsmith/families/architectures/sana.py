"""Sana: flow matching with linear attention on latents of 32x32 pixels, a small language model as text encoder."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.schedules import schedule_of
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

ROOM = 300
"""The pipeline's token limit of prompts."""


class Sana:
    name = "Sana"
    pipelines = ("SanaPipeline",)
    native = "512, 1024, 2048 or 4096 pixels"
    needs = "transformer of 0.6 or 1.6 billion parameters, Gemma 2 2B"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        network = configs["transformer"]
        side = network["sample_size"]
        best = Recommended(20, guidance_scale=4.5)
        return Traits(Size(side, side), network["patch_size"], best, float16_safe=False, perturbable=True)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, ROOM

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        # The instruction before a prompt is the default of an argument of the pipeline's call.
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        found = pipeline.encode_prompt(
            prompt,
            negative_prompt=negative_prompt or "",
            max_sequence_length=ROOM,
            complex_human_instruction=instruction,
        )
        return named(("encoder_hidden_states", "encoder_attention_mask"), found[:2], found[2:])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return schedule_of(scheduler, steps)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        network = pipeline.transformer
        timestep = repeated(level.timestep * network.config.timestep_scale, x)
        embeddings = prompt["encoder_hidden_states"].to(x.dtype)
        mask = prompt["encoder_attention_mask"]
        output: Tensor = network(x, embeddings, timestep, encoder_attention_mask=mask, return_dict=False)[0]
        return output[:, : x.shape[1]]


ARCHITECTURE = Sana()
