"""How many numbers a network and an autoencoder hold at once, from their configurations: upper estimates.

The factors were counted: true architectures of full size were run with tensors that have shapes and no values, and the
largest sum of what was alive at once was divided by the width of the first level. What kernels take for themselves is
put on top (docs/decisions/0034-devices-as-they-are.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNET = 40
"""Of a U-Net for each latent and channel of its first level: 16 where that has no attention, 26 where it has."""
TRANSFORMER = 24
"""Of a transformer for each token and number of its width: 12 to 18, and the tokens of the prompt."""
RESIDUAL = 8
"""Of an autoencoder for each pixel and channel at full size: 6 or 7, 8 where its norms are held steady."""
FEW = 4
"""Of one that has hardly any layers at full size: 3."""
VIDEO = 20
"""Of one for video."""


def network_values(config: Mapping[str, Any], latent_channels: int) -> int:
    """Numbers that a U-Net or a transformer of this configuration holds at once for each latent of a patch."""
    if "block_out_channels" in config:
        first: int = config["block_out_channels"][0]
        return UNET * first
    heads = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    width = heads or next((config[name] for name in ("hidden_size", "dim", "inner_dim") if name in config), 0)
    # Some pack 2x2 latents into the channels of one before they are called, the others in patches of their own.
    packed = max(1, config.get("in_channels", 0) // latent_channels)
    side = 1 if packed > 1 else _patch_side(config)
    tokens = packed * side**2
    return -(-TRANSFORMER * int(width) // int(tokens))


def _patch_side(config: Mapping[str, Any]) -> int:
    sides = config.get("all_patch_size") or [config.get("patch_size", 1)]
    return int(sides[0] if isinstance(sides, list | tuple) else sides)


def autoencoder_values(config: Mapping[str, Any]) -> int:
    """Numbers that an autoencoder of this configuration holds at once for each pixel of a tile."""
    kind = config["_class_name"]
    if "base_dim" in config:
        return VIDEO * int(config["base_dim"])
    if kind == "AutoencoderTiny":
        return FEW * int(config["decoder_block_out_channels"][0])
    if kind == "AutoencoderDC":
        finest = [config[f"{part}_layers_per_block"][0] for part in ("encoder", "decoder")]
        return (RESIDUAL if any(finest) else FEW) * int(config["decoder_block_out_channels"][0])
    return RESIDUAL * int(config["block_out_channels"][0])
