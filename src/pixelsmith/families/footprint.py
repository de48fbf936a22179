"""Upper estimates of the activations that a network or an autoencoder holds at once, from its configuration.

The factors were counted: the full-size architectures were run with tensors without data, and the largest sum of live
tensors was divided by the width of the first level. The workspace of kernels is added
(docs/decisions/0034-devices-as-they-are.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNET = 40
"""For a U-Net, numbers per latent and channel of its first level; counted: 16 without attention there, 26 with."""
TRANSFORMER = 24
"""For a transformer, numbers per token and unit of its width; counted: 12 to 18, and the tokens of the prompt."""
CONTROLNET = 8
"""For each ControlNet of a U-Net, numbers per latent and channel of its first level: its residuals, which are held
while the U-Net runs, and its picture; counted: 6.4 for the first, 2 for each further one."""
RESIDUAL = 8
"""For an autoencoder, numbers per pixel and channel at full size; counted: 6 or 7, and 8 with shared statistics."""
FEW = 4
"""For an autoencoder with few layers at full resolution; counted: 3."""
VIDEO = 20
"""For a video autoencoder."""


def network_values(config: Mapping[str, Any], latent_channels: int) -> int:
    """The numbers per latent of a patch that a U-Net or a transformer of this configuration holds at once."""
    if "block_out_channels" in config:
        first: int = config["block_out_channels"][0]
        return UNET * first
    return -(-TRANSFORMER * _width(config) // _latents_of_token(config, latent_channels))


def controlnet_values(config: Mapping[str, Any], latent_channels: int) -> int:
    """The numbers per latent of a patch that are held for a ControlNet of this configuration."""
    if "block_out_channels" in config:
        return CONTROLNET * int(config["block_out_channels"][0])
    # A transformer's returns a residual of each of its blocks.
    blocks = sum(int(config.get(name) or 0) for name in ("num_layers", "num_single_layers"))
    return -(-blocks * _width(config) // _latents_of_token(config, latent_channels))


def _width(config: Mapping[str, Any]) -> int:
    """The width of a transformer's tokens."""
    heads = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    return int(heads or next((config[name] for name in ("hidden_size", "dim", "inner_dim") if name in config), 0))


def _latents_of_token(config: Mapping[str, Any], latent_channels: int) -> int:
    """The latents in a token."""
    # Some pipelines pack 2x2 latents before the call; other transformers have their own patch size.
    packed = int(config.get("in_channels", 0)) // latent_channels
    return packed if packed > 1 else _patch_side(config) ** 2


def _patch_side(config: Mapping[str, Any]) -> int:
    sides = config.get("all_patch_size") or [config.get("patch_size", 1)]
    return int(sides[0] if isinstance(sides, list | tuple) else sides)


def autoencoder_values(config: Mapping[str, Any]) -> int:
    """The numbers per pixel of a tile that an autoencoder of this configuration holds at once."""
    kind = config["_class_name"]
    if "base_dim" in config:
        return VIDEO * int(config["base_dim"])
    if kind == "AutoencoderTiny":
        return FEW * int(config["decoder_block_out_channels"][0])
    if kind == "AutoencoderDC":
        finest = [config[f"{part}_layers_per_block"][0] for part in ("encoder", "decoder")]
        return (RESIDUAL if any(finest) else FEW) * int(config["decoder_block_out_channels"][0])
    return RESIDUAL * int(config["block_out_channels"][0])
