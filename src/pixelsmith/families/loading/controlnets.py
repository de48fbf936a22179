"""ControlNets for a model: compatibility checks and loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import Configs, LoadedControlNet
from pixelsmith.families.autoencoders.autoencoder import latent_space
from pixelsmith.families.loading.find import find_part
from pixelsmith.families.loading.fitting import check_same
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.families.loading.single import read_part
from pixelsmith.families.registry import architecture_of

_CLASS = "ControlNetModel"
_FITTING = (
    "in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type",
    "projection_class_embeddings_input_dim",
)  # fmt: skip
"""Configuration entries that a ControlNet shares with its U-Net, of which it begins as a copy."""


def check_controlnets(parts: Parts, configs: Configs, model: str) -> None:
    """Check from configurations alone that the ControlNets are for this model. Raises ``ModelError``."""
    if not parts.controlnets:
        return
    pipeline = str(configs["index"].get("_class_name"))
    if not architecture_of(pipeline, model).traits(configs).controllable:
        raise ModelError(f"{model}: ControlNets for a {pipeline} are not supported; leave them out")
    for net in parts.controlnets:
        place = find_part(net.path, parts.allow_pickle, weights=False)
        if not (place / "config.json").is_file():
            raise ModelError(f"{net.path}: expected the folder of a ControlNet with its config.json, or a hub id")
        _check_fits(net.path, read_json(place / "config.json"), configs)


def load_controlnets(parts: Parts, dtype: torch.dtype) -> Sequence[LoadedControlNet]:
    """Load the ControlNets in their order, onto the host. Raises ``ModelError``."""
    found = []
    for net in parts.controlnets:
        place = find_part(net.path, parts.allow_pickle)
        try:
            network = read_part(place, "controlnet", place, dtype, parts)
        except Exception as error:
            # Each library raises its own errors for damaged files.
            raise ModelError(f"{net.path}: the ControlNet cannot be loaded: {reason_of(error)}") from error
        found.append(LoadedControlNet(network.requires_grad_(False).eval(), net))
    return found


def _check_fits(name: str, config: Mapping[str, Any], configs: Configs) -> None:
    """Check class, entries and the reduction of the control picture. Raises ``ModelError``."""
    kind = config.get("_class_name")
    if kind != _CLASS:
        raise ModelError(f"{name}: expected a {_CLASS} for this model, got a {kind}")
    check_same(name, "it is a ControlNet of another family", _FITTING, config, configs["unet"])
    scale, _ = latent_space(configs["vae"])
    reduced = 2 ** (len(config.get("conditioning_embedding_out_channels", (16, 32, 96, 256))) - 1)
    if reduced != scale or config.get("conditioning_channels", 3) != 3:
        raise ModelError(f"{name}: expected a ControlNet for 3 channels that scales them to 1/{scale}, got another one")
