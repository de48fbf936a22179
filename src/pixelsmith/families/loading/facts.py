"""Facts of a model for planning, from its JSON files alone, without weights and diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelsmith.config.checks import check_whole
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.errors import InputError, ModelError, RequestError
from pixelsmith.families.architecture import Configs, Traits
from pixelsmith.families.autoencoders.autoencoder import latent_space, tiling_of
from pixelsmith.families.footprint import autoencoder_values, controlnet_values, network_values
from pixelsmith.families.latent_upsamplers import latent_upsampler_of
from pixelsmith.families.loading.controlnets import LATENT_CONTROLNETS, controlnet_configs
from pixelsmith.families.loading.find import (
    NO_PARTS,
    OWN,
    captioner_of,
    config_folder,
    few_steps_of,
    find_captioner,
    find_image_encoder,
    find_part,
    with_few_steps,
)
from pixelsmith.families.loading.fitting import check_same
from pixelsmith.families.loading.hub import HUB_ID
from pixelsmith.families.loading.ip_adapters import check_ip_adapters
from pixelsmith.families.loading.model_files import read_json, shapes_in
from pixelsmith.families.loading.sources import NETWORKS, PartSources, sources_of
from pixelsmith.families.loading.weights import WeightCounts, weights_of
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.shared.schedules import prediction_of, with_choice
from pixelsmith.families.texture_layers import MARGIN
from pixelsmith.families.textures import texture_of
from pixelsmith.geometry import MAX_SIDE, Size
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.system.places import given_place

_KNOWN: dict[str, dict[str, Any]] = {
    "stabilityai/stable-diffusion-3.5-large": {"steps": 28, "guidance_scale": 3.5},
    "stabilityai/stable-diffusion-3.5-large-turbo": {"steps": 4, "guidance_scale": 1.0},
    "stabilityai/stable-diffusion-3.5-medium": {"steps": 40, "guidance_scale": 4.5},
}
"""The recommended ``method`` of hub ids that cannot be distinguished by configuration, from their model cards."""

MOST_TRAIN_STEPS = 1_000_000
"""A thousand times those of any known model; a scheduler stores several numbers for each."""

_TOLD = {"guidance_embeds": ("guidance_in.", "guidance_embedder."), "time_cond_proj_dim": ("cond_proj.",)}
"""Entries of networks that take their guidance scale as an input, and the names of their tensors for it."""

_FITTING = (
    "_class_name", "in_channels", "cross_attention_dim", "joint_attention_dim", "pooled_projection_dim",
    "caption_channels", "cap_feat_dim",
)  # fmt: skip
"""Entries that must be equal in another network, so that it fits the model's latents and text encoders."""


def read_facts(place: Path, name: str, parts: Parts = NO_PARTS) -> ModelFacts:
    """The facts of a model that ``find_model`` has found. Raises ``ModelError``."""
    folder = config_folder(place, parts)
    few, parts = few_steps_of(folder, parts), with_few_steps(folder, parts)
    configs = _configs(folder, parts)
    architecture_of(str(configs["index"].get("_class_name")), name)
    sources = sources_of(place, parts)
    configs = {**configs, **_network_configs(sources, configs), **_vae_config(configs, parts)}
    own_networks = texture_of(folder, parts), latent_upsampler_of(folder, parts)
    facts = facts_of(configs, name, folder / OWN, few, *(own is not None for own in own_networks))
    weights = _weights(sources, parts)
    facts = replace(
        facts,
        parameters=weights.parameters,
        exchanged_parameters=_exchanged_parameters(sources, parts),
        quantised_bytes=weights.quantised_bytes,
        captioner_parameters=_captioner_parameters(folder, parts),
    )
    controls = controlnet_configs(parts, configs, name)
    check_ip_adapters(parts, configs, name)
    return replace(
        facts,
        patch_values=facts.patch_values + sum(controlnet_values(config, facts.latent_channels) for config in controls),
    )


def facts_of(
    configs: Configs,
    name: str,
    own: Path,
    few: Mapping[str, Any] | None = None,
    textured: bool = False,
    doubles: bool = False,
) -> ModelFacts:
    """The facts of a model, from its configurations and the file ``own`` (``OWN``) if there is one.

    ``few``: settings of its few-step variant; ``textured``: whether it has a texture network; ``doubles``: whether
    it has a network that enlarges latents. Raises ``ModelError``.
    """
    pipeline = str(configs["index"].get("_class_name"))
    architecture = architecture_of(pipeline, name)
    try:
        scale, channels = latent_space(configs["vae"])
        traits = architecture.traits(configs)
        prediction_of(configs["scheduler"])
        patch_values = max(network_values(configs[part], channels) for part in NETWORKS if part in configs)
        tile_values = autoencoder_values(configs["vae"])
        train_steps = configs["scheduler"].get("num_train_timesteps", 1000)
        for what, value in (("latent channels", channels), ("train timesteps", train_steps)):
            check_whole(what, value, least=1)
        if train_steps > MOST_TRAIN_STEPS:
            raise RequestError(f"train timesteps: expected at most {MOST_TRAIN_STEPS:,}, got {train_steps:,}")
        if max(traits.native.width, traits.native.height) > MAX_SIDE:
            raise RequestError(f"sample size: expected at most {MAX_SIDE:,}, got {traits.native}")
    except RequestError as error:
        raise ModelError(f"{name}: its configuration cannot be used: {error}") from error
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name}: its configuration lacks an entry of a {pipeline}: {error}") from error
    named = HUB_ID.fullmatch(name)
    known = replace(traits.recommended, **_KNOWN.get(named["id"] if named else name, {}))
    traits = _with_own(replace(traits, recommended=known), scale, own, few or {})
    return ModelFacts(
        name=name,
        pipeline=pipeline,
        native_size=Size(traits.native.width * scale, traits.native.height * scale),
        latent_scale=scale,
        latent_channels=channels,
        latent_multiple=traits.multiple,
        train_steps=train_steps,
        tiling=_tiling(configs["vae"], scale, textured),
        parameters=0,
        recommended=traits.recommended,
        float16_safe=traits.float16_safe,
        perturbable=traits.perturbable,
        doubles_latents=doubles,
        control_latents=traits.controlnet in LATENT_CONTROLNETS,
        stock_seeds=traits.stock_seeds,
        patch_values=patch_values,
        tile_values=tile_values,
        float32_autoencoder=architecture.upcasts_vae and bool(configs["vae"].get("force_upcast")),
    )


def _configs(folder: Path, parts: Parts) -> Configs:
    """All configurations of a diffusers folder, with the requested scheduler."""
    index = read_json(folder / "model_index.json")
    found = [path.parent.name for path in folder.glob("*/config.json")]
    configs = {part: read_json(folder / part / "config.json") for part in found}
    scheduler = folder / "scheduler" / "scheduler_config.json"
    return configs | {
        "index": index,
        "scheduler": with_choice(read_json(scheduler) if scheduler.exists() else {}, parts),
    }


def _network_configs(sources: PartSources, configs: Configs) -> Configs:
    """The configurations with that of the loaded network, which may be another than the model's own.

    A single file is loaded with the model's configuration. Raises ``ModelError`` if it belongs to another one, and for
    a network of another kind.
    """
    networks = {name: source for name, source in sources.items() if name in NETWORKS and source is not None}
    for name, file in networks.items():
        _check_told(file, configs.get(name, {}))
    found = {name: read_json(source / "config.json") for name, source in networks.items() if source.is_dir()}
    for name, config in found.items():
        problem = "it is not a network for this model"
        check_same(str(networks[name]), problem, _FITTING, config, configs.get(name, {}))
    return found


def _vae_config(configs: Configs, parts: Parts) -> Configs:
    """The configuration of the autoencoder of another folder, if one is given.

    A single file is loaded with the model's configuration, and checked then. Raises ``ModelError`` for other latents
    than the model's.
    """
    folder = None if parts.vae is None else find_part(parts.vae, parts.allow_pickle, weights=False)
    if folder is None or not folder.is_dir():
        return {}
    config = read_json(folder / "config.json")
    try:
        (scale, channels), _ = latent_space(config), autoencoder_values(config)
    except KeyError as error:
        raise ModelError(f"{parts.vae}: it is no known autoencoder: its configuration lacks {error}") from error
    try:
        needed = latent_space(configs["vae"])
    except KeyError as error:
        raise ModelError(f"vae: the configuration of the model's own lacks {error}") from error
    if (scale, channels) != needed:
        raise ModelError(
            f"{parts.vae}: expected an autoencoder of {needed[1]} channels at 1/{needed[0]} of the size, "
            f"got {channels} at 1/{scale}"
        )
    return {"vae": config}


def _check_told(file: Path, config: Mapping[str, Any]) -> None:
    """Check that file and configuration agree on a guidance scale as an input, because extra tensors are skipped."""
    tensors = shapes_in(file)
    for key, marks in _TOLD.items():
        found = any(mark in tensor for tensor in tensors for mark in marks)
        if tensors and found != bool(config.get(key)):
            raise ModelError(
                f"{file}: it has {'a' if found else 'no'} guidance scale as an input, unlike its configuration ({key}: "
                f"{json.dumps(config.get(key))}); give a matching configuration: a model folder with --model, or "
                "--model-config for a whole model in a file"
            )


def _with_own(traits: Traits, scale: int, file: Path, few_steps: Mapping[str, Any]) -> Traits:
    """The family's traits, overridden by those in the model's folder or of its few-step variant."""
    if not file.exists():
        return traits
    own: dict[str, Any] = read_json(file)
    try:
        recommended = replace(traits.recommended, **{**own.get("method", {}), **few_steps.get("method", {})})
        if "native_size" in own:
            traits = replace(traits, native=Size.parse(own["native_size"]).divided(scale))
    except (InputError, TypeError) as error:
        raise ModelError(f"{file}: {error}") from error
    return replace(traits, recommended=recommended)


def _tiling(config: Mapping[str, Any], scale: int, textured: bool) -> TileLayout:
    """The tile layout, with a larger context if there is a texture network."""
    tiling = tiling_of(config)
    return tiling.seeing_more(-(-MARGIN // scale)) if textured else tiling


def _captioner_parameters(folder: Path, parts: Parts) -> int | None:
    captioner = captioner_of(folder, parts)
    if captioner is None:
        return None
    return weights_of(find_captioner(captioner, parts.allow_pickle, weights=False), None).parameters


def _exchanged_parameters(sources: PartSources, parts: Parts) -> int:
    if not parts.stage_loras:
        return 0
    places = (source for name, source in sources.items() if name in NETWORKS and source is not None)
    return sum(weights_of(place, parts.variant).parameters for place in places)


def _weights(sources: PartSources, parts: Parts) -> WeightCounts:
    """The numbers of weights in all files to load; for hub ids that were not fetched, none."""
    # A file may contain several parts.
    places = {source for source in sources.values() if source is not None}
    places |= {find_part(net.path, parts.allow_pickle, weights=False) for net in parts.controlnets}
    if parts.ip_adapters:
        places.add(find_image_encoder(parts, weights=False))
    names = [*(lora.path for lora in parts.loras), *(adapter.path for adapter in parts.ip_adapters)]
    beside = map(given_place, names)
    files = [file for path in beside for file in ([path] if path.is_file() else path.glob("*.safetensors"))]
    return sum((weights_of(source, parts.variant) for source in (*places, *files)), WeightCounts())
