"""Flux.1: flow matching, tokens of 2x2 latents, position ids, and a guidance scale as an input (dev)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Recommended
from pixelsmith.families.architecture import Configs, Scene, Traits, repeated
from pixelsmith.families.family import Prompt
from pixelsmith.families.shared.blocks import added
from pixelsmith.families.shared.image_prompts import CLIP
from pixelsmith.families.shared.packing import over_tokens, pack
from pixelsmith.families.shared.schedules import flow_schedule
from pixelsmith.geometry import Size
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level, Schedule

NATIVE = Size(128, 128)
"""Native size in latents; a constant of the pipeline."""
ROOM, SCHNELL_ROOM = 512, 256
"""The token limits of T5 with which the models were trained."""


class Flux:
    name = "Flux.1"
    pipelines = ("FluxPipeline",)
    native = "1024 pixels"
    needs = "transformer of 12 billion parameters, CLIP, T5-XXL"
    upcasts_vae = False
    optional = ()

    def traits(self, configs: Configs) -> Traits:
        # dev takes its guidance scale as an input; schnell is distilled to few steps and has none.
        dev = configs["transformer"]["guidance_embeds"]
        best = Recommended(28, guidance_scale=3.5, guidance_told=True) if dev else Recommended(4, guidance_scale=1.0)
        return Traits(NATIVE, 2, best, controlnet="FluxControlNetModel", image_encoder=CLIP)

    def reader(self, pipeline: Any) -> tuple[Any, int]:
        return pipeline.tokenizer_2, _room(pipeline)

    def encode(self, pipeline: Any, prompt: str, negative_prompt: str | None) -> tuple[Prompt, Prompt]:
        return _encoded(pipeline, prompt), _encoded(pipeline, negative_prompt or "")

    def schedule(self, scheduler: Any, steps: int, patch: Size) -> Schedule:
        return flow_schedule(scheduler, steps, patch.area // 4)

    def predict(self, pipeline: Any, x: Batch, level: Level, prompt: Prompt, scene: Scene) -> Batch:
        network, (height, width) = pipeline.transformer, x.shape[2:]
        conditions = {
            "timestep": repeated(level.timestep, x).to(x.dtype) / 1000,
            "pooled_projections": prompt["pooled"],
            "encoder_hidden_states": prompt["embeddings"],
            "txt_ids": x.new_zeros(prompt["embeddings"].shape[1], 3),
            "img_ids": position_ids(height // 2, width // 2, x.device).to(x.dtype),
        }
        guidance = repeated(scene.guidance_scale, x)

        def told(network: Any) -> dict[str, Any]:
            return conditions | {"guidance": guidance if network.config.guidance_embeds else None}

        said = [
            control.network(
                pack(x),
                controlnet_cond=pack(control.picture),
                conditioning_scale=control.scale,
                **told(control.network),
                return_dict=False,
            )
            for control in scene.controls
        ]
        of_pairs, of_singles = zip(*said, strict=True) if said else ((), ())
        return over_tokens(
            network,
            x,
            **told(network),
            joint_attention_kwargs={"ip_adapter_image_embeds": list(scene.images)} if scene.images else None,
            controlnet_block_samples=_added(of_pairs, len(network.transformer_blocks)),
            controlnet_single_block_samples=_added(of_singles, len(network.single_transformer_blocks)),
        )


@lru_cache(maxsize=8)
def position_ids(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows · columns, 3): 0, row and column of each token, from the patch's own corner.

    The network was trained with the ids of its native size only, so all patches use these, wherever they lie
    (docs/decisions/0011-patches-and-transformers.md).
    """
    grid = torch.meshgrid(torch.arange(1), torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack(grid, dim=-1).reshape(-1, 3).to(device)


def _added(said: Sequence[Sequence[Tensor] | None], blocks: int) -> list[Tensor] | None:
    """The residuals of ControlNets for each of the network's blocks; consecutive blocks share one."""
    return added(said, lambda i, count: i // -(-blocks // count), blocks)


def _room(pipeline: Any) -> int:
    return ROOM if pipeline.transformer.config.guidance_embeds else SCHNELL_ROOM


def _encoded(pipeline: Any, text: str) -> Prompt:
    embeddings, pooled, _ = pipeline.encode_prompt(text, None, max_sequence_length=_room(pipeline))
    return {"embeddings": embeddings, "pooled": pooled}


ARCHITECTURE = Flux()
