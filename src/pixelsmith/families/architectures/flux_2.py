"""Flux.2 klein: flow matching on 128 channels at 1/16 of the size, four position ids, Qwen3 as text encoder."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt
from pixelsmith.families.shared.chat import room_in_chat
from pixelsmith.families.shared.packing import unpack_grid
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

NATIVE = Size(64, 64)
"""Native size in latents of 16x16 pixels; a constant of the pipeline."""
ROOM = 512
"""The pipeline's token limit of the text encoder."""


class Flux2:
    name = "Flux.2 klein"
    pipelines = ("Flux2KleinPipeline",)
    native = "1024 pixels"
    needs = "transformer of 4 or 9 billion parameters, Qwen3"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        distilled = configs["index"].get("is_distilled")
        best = Recommended(4, guidance_scale=1.0) if distilled else Recommended(50, guidance_scale=4.0)
        return Traits(NATIVE, 1, best)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer, room_in_chat(pipeline.tokenizer, ROOM, enable_thinking=False)

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        return _encoded(pipeline, prompt), _encoded(pipeline, negative_prompt or "")

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return flow_schedule(scheduler, steps, patch.area, mu=compute_empirical_mu(patch.area, steps))

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        rows, columns = x.shape[2:]
        output: Tensor = pipeline.transformer(
            hidden_states=x.flatten(2).transpose(1, 2),
            timestep=repeated(level.timestep, x).to(x.dtype) / 1000,
            guidance=None,
            encoder_hidden_states=prompt["embeddings"],
            txt_ids=prompt["positions"],
            img_ids=position_ids(rows, columns, x.device).expand(len(x), -1, -1),
            return_dict=False,
        )[0]
        return unpack_grid(output, rows)


@lru_cache(maxsize=8)
def position_ids(rows: int, columns: int, device: torch.device) -> Tensor:
    """(1, rows · columns, 4): 0, row, column and 0 of each latent, from the patch's own corner as for Flux.1."""
    axes = (torch.arange(size) for size in (1, rows, columns, 1))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 4).to(device)


def _encoded(pipeline: Any, text: str) -> Prompt:
    embeddings, positions = pipeline.encode_prompt(text, max_sequence_length=ROOM)
    return {"embeddings": embeddings, "positions": positions}


ARCHITECTURE = Flux2()
