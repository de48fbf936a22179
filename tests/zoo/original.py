"""A Stable Diffusion pipeline as one checkpoint with the names of the first implementation, as people share them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
OPEN_CLIP = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "self_attn": "attn",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def save_original(pipeline: Any, file: Path) -> Path:
    """Everything but the tokenizers and the scheduler; with a second text encoder as SDXL."""
    layers = pipeline.unet.config.layers_per_block
    tensors: dict[str, Tensor] = {}
    for name, value in pipeline.unet.state_dict().items():
        tensors[f"model.diffusion_model.{_unet_name(name, layers)}"] = value
    tensors |= vae_tensors(pipeline.vae)
    is_xl = hasattr(pipeline, "text_encoder_2")
    first = "conditioner.embedders.0.transformer." if is_xl else "cond_stage_model.transformer."
    for name, value in pipeline.text_encoder.state_dict().items():
        prefix = "" if name.startswith("text_model.") else "text_model."
        tensors[first + prefix + name] = value
    if is_xl:
        tensors |= _open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return file


def _open_clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    """A text encoder; queries, keys and values were one matrix."""
    state = encoder.state_dict()
    tensors = {f"{prefix}text_projection": state.pop("text_projection.weight").T}
    for name, value in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            value = torch.cat([state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace(".q_proj.", ".in_proj_")
        for mine, original in OPEN_CLIP.items():
            name = name.replace(mine, original)
        tensors[prefix + name] = value
    return tensors


def vae_tensors(vae: Any, prefix: str = "first_stage_model.") -> dict[str, Tensor]:
    """An autoencoder; its attention was written as convolutions of 1x1."""
    levels = len(vae.config.block_out_channels)
    square = {name for name, value in vae.state_dict().items() if "attentions" in name and value.ndim == 2}
    return {
        prefix + _vae_name(name, levels): value[..., None, None] if name in square else value
        for name, value in vae.state_dict().items()
    }


def _unet_name(name: str, layers: int) -> str:
    for mine, original in ENDS.items():
        name = re.sub(rf"^{re.escape(mine)}\.", f"{original}.", name)
    match = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)", name)
    if match:
        side, block, kind, index, rest = match.groups()
        first = int(block) * (layers + 1)
        if kind == "downsamplers":
            name = f"input_blocks.{first + layers + 1}.0.op{rest.removeprefix('conv')}"
        elif kind == "upsamplers":
            name = f"output_blocks.{first + layers}.2.{rest}"
        else:
            place = (
                f"input_blocks.{first + int(index) + 1}" if side == "down" else f"output_blocks.{first + int(index)}"
            )
            name = f"{place}.{int(kind == 'attentions')}.{rest}"
    if re.match(r"(input_blocks\.\d+\.0|middle_block\.[02]|output_blocks\.\d+\.0)\.", name):
        for mine, original in RESNET.items():
            name = re.sub(rf"\.{mine}\.", f".{original}.", name)
    return name


def _vae_name(name: str, levels: int) -> str:
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("to_out.0", "proj_out")
    name = re.sub(r"attn_1\.to_([qkv])\.", r"attn_1.\1.", name)
    return name.replace("attn_1.group_norm", "attn_1.norm")
