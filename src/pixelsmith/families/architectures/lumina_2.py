"""Lumina Image 2: flow matching, one stream of text and image tokens, a small language model as text encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

NATIVE = Size(128, 128)
"""Native size in latents; a constant of the pipeline."""
ROOM = 256
"""The pipeline's token limit of the text encoder."""


class Lumina2:
    name = "Lumina Image 2"
    pipelines = ("Lumina2Pipeline",)
    native = "1024 pixels"
    needs = "transformer of 2.6 billion parameters, Gemma 2 2B"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        best = Recommended(30, guidance="cfg-norm-rows", guidance_scale=4.0)
        return Traits(NATIVE, 2, best, float16_safe=False)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        before = pipeline.tokenizer(f"{pipeline.system_prompt} <Prompt Start> ", add_special_tokens=False).input_ids
        return pipeline.tokenizer, ROOM - len(before)

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, negative_prompt=negative_prompt or "", max_sequence_length=ROOM)
        return named(("encoder_hidden_states", "encoder_attention_mask"), found[:2], found[2:])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return flow_schedule(scheduler, steps, patch.area // 4)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        # The network's time runs from noise to image, and it predicts z − ε.
        time = repeated(1 - level.timestep / 1000, x)
        output: Tensor = pipeline.transformer(hidden_states=x, timestep=time, **prompt, return_dict=False)[0]
        return -output


ARCHITECTURE = Lumina2()
