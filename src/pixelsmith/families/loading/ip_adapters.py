"""IP-Adapters for a model: checks that they match the model and the image encoder, and loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import Configs, network_of
from pixelsmith.families.loading.find import find_addition, find_image_encoder
from pixelsmith.families.loading.fitting import check_same
from pixelsmith.families.loading.model_files import Shapes, read_json, shapes_in
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.shared.image_prompts import CLIP, SIGLIP

_ENCODERS = {CLIP: "CLIPVisionModelWithProjection", SIGLIP: "SiglipVisionModel"}
"""The classes of image encoders in transformers."""
_PROCESSOR = "preprocessor_config.json"
_KINDS = {
    CLIP: {
        "image_proj.proj.weight": ("image_proj.proj.weight", "projection_dim"),
        "image_proj.proj.3.weight": ("image_proj.proj.0.weight", "hidden_size"),
        "image_proj.latents": ("image_proj.proj_in.weight", "hidden_size"),
    },
    SIGLIP: {"image_proj.time_embedding.linear_1.weight": ("image_proj.proj_in.weight", "hidden_size")},
}
"""For each image encoder, by a tensor that only one kind of IP-Adapter has (with CLIP plain, full, plus): the tensor
for the encoder's output, and the name of the output's width in the encoder's configuration."""
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
    kind = architecture_of(pipeline, model).traits(configs).image_encoder
    if kind is None:
        raise ModelError(f"{model}: how an IP-Adapter prompts a {pipeline} is not known; leave it out")
    if kind == SIGLIP and len(parts.ip_adapters) > 1:
        raise ModelError(f"{model}: expected one IP-Adapter for a {pipeline}, got {len(parts.ip_adapters)}")
    folder = find_image_encoder(parts, weights=False)
    encoder = _encoder_config(folder)
    _check_encoder(folder, encoder, kind)
    widths = _widths(configs.get("unet") or configs["transformer"], kind)
    for adapter in parts.ip_adapters:
        # The shapes of a hub id that was not fetched yet, and of a pickle, are unknown.
        if shapes := shapes_in(find_addition(adapter.path, parts.allow_pickle, weights=False)):
            _check_fits(adapter.path, _renamed(shapes), kind, widths, encoder)


def add_ip_adapters(pipeline: Any, parts: Parts, model: str, dtype: torch.dtype) -> None:
    """Add the adapters and the image encoder to a pipeline, on the host. Raises ``ModelError``."""
    if not parts.ip_adapters:
        return
    _add_image_encoder(pipeline, parts, dtype)
    # In this order each part frees the device of the previous one, and pictures are encoded before texts.
    others = [name for name in pipeline.model_cpu_offload_seq.split("->") if name != "image_encoder"]
    pipeline.model_cpu_offload_seq = "->".join(["image_encoder", *others])
    files = [find_addition(adapter.path, parts.allow_pickle) for adapter in parts.ip_adapters]
    try:
        pipeline.load_ip_adapter(
            _plain([str(file.parent) for file in files]),
            subfolder="",
            weight_name=_plain([file.name for file in files]),
            local_files_only=True,
        )
        # diffusers leaves weights that a file lacks without data.
        if missing := [name for name, value in network_of(pipeline).named_parameters() if value.is_meta]:
            raise ModelError(f"it lacks {len(missing)} weights, such as that of {missing[0]}")
    except Exception as error:
        names = ", ".join(adapter.path for adapter in parts.ip_adapters)
        raise ModelError(f"{names}: it is no IP-Adapter of {model}: {reason_of(error)}") from error
    pipeline.set_ip_adapter_scale(_plain([adapter.scale for adapter in parts.ip_adapters]))


def _add_image_encoder(pipeline: Any, parts: Parts, dtype: torch.dtype) -> None:
    """Add the image encoder to a pipeline. diffusers makes the processor of pictures for CLIP from its size."""
    import transformers

    folder, safe = find_image_encoder(parts), None if parts.allow_pickle else True
    kind = _encoder_config(folder)["model_type"]
    try:
        encoder = getattr(transformers, _ENCODERS[kind]).from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=safe
        )
        if kind == SIGLIP:
            processor = transformers.SiglipImageProcessor.from_pretrained(folder, local_files_only=True)
            pipeline.register_modules(feature_extractor=processor)
    except Exception as error:
        # Each library raises its own errors for damaged files.
        raise ModelError(f"{folder}: the image encoder cannot be loaded: {reason_of(error)}") from error
    pipeline.register_modules(image_encoder=encoder.requires_grad_(False).eval())


def _plain(values: list[Any]) -> Any:
    """One value is passed as such: Stable Diffusion 3 takes no list, and for Flux.1 one would mean scales by block."""
    return values[0] if len(values) == 1 else values


def _encoder_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    vision = f"{config.get('model_type')}_vision_model"
    # Of a whole model of pictures and texts only the vision model is used.
    return {**config.get("vision_config", {}), "model_type": vision} if vision in _ENCODERS else config


def _widths(network: Mapping[str, Any], kind: str) -> dict[str, int]:
    """The width of the image prompt that the attentions of a network take, by its name: that of the prompt, or the
    network's own.
    """
    if kind == SIGLIP:
        heads, of_each = "num_attention_heads", "attention_head_dim"
        return {f"{heads} * {of_each}": network[heads] * network[of_each]}
    return {key: network[key] for key in ("cross_attention_dim", "joint_attention_dim") if key in network}


def _renamed(shapes: Shapes) -> Shapes:
    """The shapes by diffusers' names."""
    found = dict(shapes)
    for old, new in _XLABS.items():
        found = {name.replace(old, new): shape for name, shape in found.items()}
    return found


def _check_encoder(folder: Path, encoder: Mapping[str, Any], kind: str) -> None:
    """Check the kind of an image encoder. Raises ``ModelError``."""
    if encoder.get("model_type") != kind:
        raise ModelError(f"{folder}: expected an image encoder of the type {kind}, got {encoder.get('model_type')}")
    if kind == SIGLIP and not (folder / _PROCESSOR).is_file():
        raise ModelError(f"{folder}: expected a {_PROCESSOR} beside the config.json of the image encoder")


def _check_fits(name: str, shapes: Shapes, kind: str, widths: Mapping[str, int], encoder: Mapping[str, Any]) -> None:
    """Check the kind of an adapter, the width of the prompt and that of the encoder. Raises ``ModelError``."""
    keys = [shape for key, shape in shapes.items() if key.startswith("ip_adapter.") and key.endswith("to_k_ip.weight")]
    if not keys or not any(key.startswith("image_proj.") for key in shapes):
        raise ModelError(f"{name}: expected an IP-Adapter with tensors of image_proj and ip_adapter; it has others")
    found = next((own for key, own in _KINDS[kind].items() if key in shapes), None)
    if found is None:
        # Such as those for the embeddings of a face recogniser.
        seen = "CLIP, plain, plus or full" if kind == CLIP else "SigLIP, as those for Stable Diffusion 3 do"
        raise ModelError(f"{name}: expected an IP-Adapter that sees pictures through {seen}")
    check_same(name, "it is an IP-Adapter of another family", tuple(widths), dict.fromkeys(widths, keys[0][1]), widths)
    takes, size = found
    if shapes[takes][1] != encoder.get(size):
        raise ModelError(
            f"{name}: it is for an image encoder with a {size} of {shapes[takes][1]}, this one has "
            f"{encoder.get(size)}; give the right one with --image-encoder"
        )
