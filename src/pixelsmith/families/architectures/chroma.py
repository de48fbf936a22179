"""Chroma: a smaller, undistilled version of Flux.1's transformer, with T5 as its only text encoder, padding masked."""

from __future__ import annotations

from typing import Any

import torch

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.architectures.flux import NATIVE, ROOM, position_ids
from pixelsmith.families.family import Prompt, named
from pixelsmith.families.shared.packing import over_tokens
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule


class Chroma:
    name = "Chroma"
    pipelines = ("ChromaPipeline",)
    native = "1024 pixels"
    needs = "transformer of 8.9 billion parameters, T5-XXL"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        return Traits(NATIVE, 2, Recommended(35, guidance_scale=5.0))

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, ROOM

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, negative_prompt or "", max_sequence_length=ROOM)
        # Embeddings, positions and mask of the prompt, then of the negative prompt; text positions are all 0.
        return named(("embeddings", "mask"), found[0:3:2], found[3:6:2])

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return flow_schedule(scheduler, steps, patch.area // 4)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        mask, (height, width) = prompt["mask"], x.shape[2:]
        image_mask = mask.new_ones(len(x), height * width // 4)
        return over_tokens(
            pipeline.transformer,
            x,
            timestep=repeated(level.timestep, x).to(x.dtype) / 1000,
            encoder_hidden_states=prompt["embeddings"],
            txt_ids=x.new_zeros(prompt["embeddings"].shape[1], 3),
            img_ids=position_ids(height // 2, width // 2, x.device).to(x.dtype),
            attention_mask=torch.cat([mask, image_mask], dim=1).to(x.dtype),
        )


ARCHITECTURE = Chroma()
