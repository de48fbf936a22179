"""Z-Image and Z-Image-Turbo: flow matching, one stream of text and image tokens, a language model as text encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt
from pixelsmith.families.shared.chat import room_in_chat
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

NATIVE = Size(128, 128)
"""Native size in latents; a constant of the pipeline."""
ROOM = 512
"""The pipeline's token limit of the text encoder."""
TURBO_SHIFT = 3.0


class ZImage:
    name = "Z-Image"
    pipelines = ("ZImagePipeline",)
    native = "1024 pixels"
    needs = "transformer of 6 billion parameters, Qwen3 4B"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        # The two variants differ in weights and shift only. The pipeline's guidance scale is lower by 1 than usual.
        turbo = configs["scheduler"].get("shift") == TURBO_SHIFT
        best = Recommended(8, guidance_scale=1.0) if turbo else Recommended(50, guidance_scale=5.0)
        return Traits(NATIVE, 2, best, float16_safe=False)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, room_in_chat(pipeline.tokenizer, ROOM, enable_thinking=True)

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        found = pipeline.encode_prompt(prompt, negative_prompt=negative_prompt)
        positive, negative = ({"embeddings": embeddings[0][None]} for embeddings in found)
        return positive, negative

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return flow_schedule(scheduler, steps, patch.area // 4)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        # The network's time runs from noise to image, it has a frame axis, and it predicts z − ε.
        time = repeated(1 - level.timestep / 1000, x)
        images, texts = list(x[:, :, None].unbind()), list(prompt["embeddings"].unbind())
        outputs: list[Tensor] = pipeline.transformer(images, time, texts, return_dict=False)[0]
        return -torch.stack(outputs)[:, :, 0]


ARCHITECTURE = ZImage()
