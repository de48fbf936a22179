"""IP-Adapters for a model: checks that they match the model and the image encoder, and loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import Configs
from pixelsmith.families.loading.find import find_addition, find_image_encoder
from pixelsmith.families.loading.fitting import check_same
from pixelsmith.families.loading.model_files import Shapes, read_json, shapes_in
from pixelsmith.families.registry import architecture_of

_ENCODER = "clip_vision_model"
"""The ``model_type`` in the configuration of an image encoder."""
_KINDS = {
    "image_proj.proj.weight": ("image_proj.proj.weight", "projection_dim"),
    "image_proj.proj.3.weight": ("image_proj.proj.0.weight", "hidden_size"),
    "image_proj.latents": ("image_proj.proj_in.weight", "hidden_size"),
}
"""By a tensor that only one kind of IP-Adapter has (plain, full, plus): the tensor for the encoder's output, and the
name of the output's width in the encoder's configuration."""
_XLABS = {
    "ip_adapter_proj_model.": "image_proj.",
    "double_blocks.": "ip_adapter.",
    "processor.ip_adapter_double_stream_k_proj": "to_k_ip",
}
"""The published names of Flux.1's tensors, and those of diffusers."""


def check_ip_adapters(parts: Parts, configs: Configs, model: str) -> None:
    """Check that IP-Adapters are for this model, from configurations and shapes alone. Raises ``ModelError``."""
    if not parts.ip_adapters:
        return
    pipeline = str(configs["index"].get("_class_name"))
    if not architecture_of(pipeline, model).traits(configs).image_prompts:
        raise ModelError(f"{model}: how an IP-Adapter prompts a {pipeline} is not known; leave it out")
    network = configs.get("unet") or configs["transformer"]
    encoder = _encoder_config(find_image_encoder(parts, weights=False))
    widths = {key: network[key] for key in ("cross_attention_dim", "joint_attention_dim") if key in network}
    for adapter in parts.ip_adapters:
        # The shapes of a hub id that was not fetched yet, and of a pickle, are unknown.
        if shapes := shapes_in(find_addition(adapter.path, parts.allow_pickle, weights=False)):
            _check_fits(adapter.path, _renamed(shapes), widths, encoder)


def add_ip_adapters(pipeline: Any, parts: Parts, model: str, dtype: torch.dtype) -> None:
    """Add the adapters and the image encoder to a pipeline, on the host. Raises ``ModelError``."""
    if not parts.ip_adapters:
        return
    from transformers import CLIPVisionModelWithProjection

    folder, safe = find_image_encoder(parts), None if parts.allow_pickle else True
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=safe
        )
    except Exception as error:
        # Each library raises its own errors for damaged files.
        raise ModelError(f"{folder}: the image encoder cannot be loaded: {reason_of(error)}") from error
    pipeline.register_modules(image_encoder=encoder.requires_grad_(False).eval())
    # In this order each part frees the device of the previous one, and pictures are encoded before texts.
    others = [name for name in pipeline.model_cpu_offload_seq.split("->") if name != "image_encoder"]
    pipeline.model_cpu_offload_seq = "->".join(["image_encoder", *others])
    files = [find_addition(adapter.path, parts.allow_pickle) for adapter in parts.ip_adapters]
    try:
        pipeline.load_ip_adapter(
            [str(file.parent) for file in files],
            subfolder="",
            weight_name=[file.name for file in files],
            local_files_only=True,
        )
    except Exception as error:
        names = ", ".join(adapter.path for adapter in parts.ip_adapters)
        raise ModelError(f"{names}: it is no IP-Adapter of {model}: {reason_of(error)}") from error
    scales = [adapter.scale for adapter in parts.ip_adapters]
    # For Flux's pipeline a list with one adapter would mean scales by block.
    pipeline.set_ip_adapter_scale(scales[0] if len(scales) == 1 else scales)


def _encoder_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    if config.get("model_type") == "clip":
        # A whole CLIP model, of which only the vision model is used.
        config = {**config.get("vision_config", {}), "model_type": _ENCODER}
    if config.get("model_type") != _ENCODER:
        raise ModelError(f"{folder}: expected an image encoder of the type {_ENCODER}, got {config.get('model_type')}")
    return config


def _renamed(shapes: Shapes) -> Shapes:
    """The shapes by diffusers' names."""
    found = dict(shapes)
    for old, new in _XLABS.items():
        found = {name.replace(old, new): shape for name, shape in found.items()}
    return found


def _check_fits(name: str, shapes: Shapes, widths: Mapping[str, int], encoder: Mapping[str, Any]) -> None:
    """Check the kind of an adapter, the width of the prompt and that of the encoder. Raises ``ModelError``."""
    keys = [shape for key, shape in shapes.items() if key.startswith("ip_adapter.") and key.endswith("to_k_ip.weight")]
    if not keys or not any(key.startswith("image_proj.") for key in shapes):
        raise ModelError(f"{name}: expected an IP-Adapter with tensors of image_proj and ip_adapter; it has others")
    check_same(name, "it is an IP-Adapter of another family", tuple(widths), dict.fromkeys(widths, keys[0][1]), widths)
    kind = next((own for key, own in _KINDS.items() if key in shapes), None)
    if kind is None:
        # Such as those for the embeddings of a face recogniser.
        raise ModelError(f"{name}: expected an IP-Adapter that sees pictures through CLIP, plain, plus or full")
    takes, size = kind
    if shapes[takes][1] != encoder.get(size):
        raise ModelError(
            f"{name}: it is for an image encoder with a {size} of {shapes[takes][1]}, this one has "
            f"{encoder.get(size)}; give the right one with --image-encoder"
        )
