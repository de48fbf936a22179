"""Qwen-Image: flow matching, 2x2 latents as one token, a vision language model as text encoder, a video autoencoder."""

from __future__ import annotations

from typing import Any

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt
from pixelsmith.families.shared.packing import over_tokens
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

NATIVE = Size(128, 128)
"""Native size in latents; a constant of the pipeline."""
ROOM = 512
"""The pipeline's token limit of prompts."""


class QwenImage:
    name = "Qwen-Image"
    pipelines = ("QwenImagePipeline",)
    native = "1024 pixels"
    needs = "transformer of 20 billion parameters, Qwen2.5-VL 7B"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        return Traits(NATIVE, 2, Recommended(50, guidance="cfg-norm", guidance_scale=4.0), float16_safe=False)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, ROOM

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        # The pipeline uses guidance only with a negative prompt, for which a space is customary.
        return _encoded(pipeline, prompt), _encoded(pipeline, negative_prompt or " ")

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return flow_schedule(scheduler, steps, patch.area // 4)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        network, (height, width) = pipeline.transformer, x.shape[2:]
        return over_tokens(
            network,
            x,
            timestep=repeated(level.timestep, x).to(x.dtype) / 1000,
            guidance=repeated(scene.guidance_scale, x) if network.config.guidance_embeds else None,
            encoder_hidden_states=prompt["embeddings"],
            encoder_hidden_states_mask=None,
            img_shapes=[[(1, height // 2, width // 2)]] * len(x),
        )


def _encoded(pipeline: Any, text: str) -> Prompt:
    # A single prompt is not padded, so there is no mask.
    embeddings, _ = pipeline.encode_prompt(text, max_sequence_length=ROOM)
    return {"embeddings": embeddings}


ARCHITECTURE = QwenImage()
