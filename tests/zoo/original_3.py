"""A Stable Diffusion 3 pipeline as one checkpoint with the names of the first implementation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.zoo.original import vae_tensors

ENDS = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
BLOCK = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
JOINED = {
    "x_block.attn": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn2": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "context_block.attn": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
"""Three matrices that were one."""
ENCODERS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}


def save_original_3(pipeline: Any, file: Path, *parts: str) -> Path:
    """The transformer and the ``parts`` of ``vae``, ``text_encoder``, ``text_encoder_2`` and ``text_encoder_3``."""
    tensors = {f"model.diffusion_model.{name}": value for name, value in _transformer(pipeline).items()}
    for part in parts:
        if part == "vae":
            tensors |= vae_tensors(pipeline.vae)
        else:
            prefix, state = f"text_encoders.{ENCODERS[part]}.transformer.", getattr(pipeline, part).state_dict()
            # The first encoder's projection was not kept: diffusers takes it for the identity.
            kept = {
                name: value
                for name, value in state.items()
                if (part, name) != ("text_encoder", "text_projection.weight")
            }
            tensors |= {prefix + name: value for name, value in kept.items()}
    save_file({name: value.clone().contiguous() for name, value in tensors.items()}, file)
    return file


def _transformer(pipeline: Any) -> dict[str, Tensor]:
    left = dict(pipeline.transformer.state_dict())
    last = pipeline.transformer.config.num_layers - 1
    tensors: dict[str, Tensor] = {}
    for layer in range(last + 1):
        mine, theirs = f"transformer_blocks.{layer}.", f"joint_blocks.{layer}."
        for joined, names in JOINED.items():
            for end in ("weight", "bias"):
                if f"{mine}{names[0]}.{end}" in left:
                    tensors[f"{theirs}{joined}.qkv.{end}"] = torch.cat(
                        [left.pop(f"{mine}{name}.{end}") for name in names]
                    )
    for name, value in left.items():
        tensors[_name(name)] = _swapped(value) if _is_swapped(name, last) else value
    return tensors


def _name(name: str) -> str:
    for mine, original in ENDS.items():
        name = re.sub(rf"^{re.escape(mine)}(?=\.|$)", original, name)
    if match := re.match(r"transformer_blocks\.(\d+)\.(.*)\.(weight|bias)$", name):
        return f"joint_blocks.{match[1]}.{BLOCK[match[2]]}.{match[3]}"
    return name


def _is_swapped(name: str, last: int) -> bool:
    """Of the last layers the first implementation has the shift before the scale."""
    return name.startswith(("norm_out.linear", f"transformer_blocks.{last}.norm1_context.linear"))


def _swapped(value: Tensor) -> Tensor:
    return torch.cat(list(value.chunk(2))[::-1])
