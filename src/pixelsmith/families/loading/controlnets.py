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

_TOKENS = ("in_channels", "joint_attention_dim", "pooled_projection_dim", "num_attention_heads", "attention_head_dim")
_FITTING = {
    "ControlNetModel": (
        "in_channels", "cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type",
        "projection_class_embeddings_input_dim",
    ),
    "SD3ControlNetModel": (*_TOKENS, "patch_size"),
    "FluxControlNetModel": (*_TOKENS, "axes_dims_rope"),
}  # fmt: skip
"""By class, the configuration entries that a ControlNet shares with its network, of which it begins as a copy."""
LATENT_CONTROLNETS = frozenset(("SD3ControlNetModel", "FluxControlNetModel"))
"""The classes whose input is the latents of the control picture."""
_UNUSUAL = {
    "extra_conditioning_channels": "it also needs a mask",
    "num_mode": "it is a ControlNet-Union",
    "conditioning_embedding_channels": "its input is pixels, where Flux.1's ControlNets use latents",
}
"""Configuration entries of ControlNets that need other inputs than the control picture."""


def controlnet_configs(parts: Parts, configs: Configs, model: str) -> list[dict[str, Any]]:
    """The configurations of the ControlNets. Raises ``ModelError`` if they are not for this model."""
    if not parts.controlnets:
        return []
    pipeline = str(configs["index"].get("_class_name"))
    kind = architecture_of(pipeline, model).traits(configs).controlnet
    if kind is None:
        raise ModelError(f"{model}: ControlNets for a {pipeline} are not supported; leave them out")
    found = []
    for net in parts.controlnets:
        file = find_part(net.path, parts.allow_pickle, weights=False) / "config.json"
        if not file.is_file():
            raise ModelError(f"{net.path}: expected the folder of a ControlNet with its config.json, or a hub id")
        found.append(read_json(file))
        _check_fits(net.path, found[-1], configs, kind)
    return found


def load_controlnets(parts: Parts, beside: Any, dtype: torch.dtype) -> Sequence[LoadedControlNet]:
    """Load the ControlNets in their order, onto the host; ``beside``: the network. Raises ``ModelError``."""
    found = []
    for net in parts.controlnets:
        place = find_part(net.path, parts.allow_pickle)
        try:
            network = read_part(place, "controlnet", place, dtype, parts)
        except Exception as error:
            # Each library raises its own errors for damaged files.
            raise ModelError(f"{net.path}: the ControlNet cannot be loaded: {reason_of(error)}") from error
        if getattr(network, "pos_embed", network) is None:
            # Those of Stable Diffusion 3.5 large share the positions of their network.
            network.pos_embed = network._get_pos_embed_from_transformer(beside).to(dtype)
        found.append(LoadedControlNet(network.requires_grad_(False).eval(), net))
    return found


def _check_fits(name: str, config: Mapping[str, Any], configs: Configs, kind: str) -> None:
    """Check class, entries and what it sees of the control picture. Raises ``ModelError``."""
    if config.get("_class_name") != kind:
        raise ModelError(f"{name}: expected a {kind} for this model, got a {config.get('_class_name')}")
    own = configs["transformer" if kind in LATENT_CONTROLNETS else "unet"]
    # Some have no text input of their own.
    said = {key: value for key, value in config.items() if value is not None}
    check_same(name, "it is a ControlNet of another family", _FITTING[kind], said, own)
    if kind in LATENT_CONTROLNETS:
        for entry, why in _UNUSUAL.items():
            if said.get(entry):
                raise ModelError(f"{name}: {why}, which is not supported; expected a {kind} without {entry}")
        return
    scale, _ = latent_space(configs["vae"])
    reduced = 2 ** (len(config.get("conditioning_embedding_out_channels", (16, 32, 96, 256))) - 1)
    if reduced != scale or config.get("conditioning_channels", 3) != 3:
        raise ModelError(f"{name}: expected a ControlNet for 3 channels that scales them to 1/{scale}, got another one")
