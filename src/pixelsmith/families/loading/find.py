"""Finding the files of a model: the embedded one, a folder, a single file, or a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import LEAVE_OUT_STAGES, Lora, Parts, located
from pixelsmith.config.request import EMBEDDED
from pixelsmith.errors import ModelError, RequestError
from pixelsmith.families.loading.hub import CONFIGURATION, HUB_ID, fetched, fetched_pipeline, pinned
from pixelsmith.families.loading.model_files import read_json, shapes_in
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.system.places import given_place

OWN = "pixelsmith.json"
"""An optional file in a model folder with ``native_size`` (pixels), ``method`` (``Recommended``), ``captioner`` (a
folder relative to the model's, or a hub id), ``texture`` and ``latent_upsampler`` (the folders of its texture network
and of its network that enlarges latents), and ``few_steps``: the ``lora`` of its few-step variant (relative to the
folder, or a hub id), the recommended ``method`` with it, its ``scheduler`` and ``timestep_spacing``, and whether it is
for the stages alone (``stages_only``)."""
NO_PARTS = Parts()


def find_model(model: str, weights: bool = True, parts: Parts = NO_PARTS) -> Path:
    """The folder or the single file of a model; a hub id is fetched into the hub's cache if needed.

    Without ``weights`` only the configuration files of a hub id are fetched. Raises ``ModelError``.
    """
    place = Path(str(files("pixelsmith.embedded"))) / "model" if model == EMBEDDED else given_place(model)
    if place.is_dir():
        return place
    if place.is_file():
        return _checked(place, parts)
    named = HUB_ID.fullmatch(model)
    if model == EMBEDDED or not named:
        raise ModelError(
            f"unknown model {model!r}: expected a folder, a .safetensors file, a hub id such as owner/name, "
            f"owner/name@revision or owner/name/file.safetensors, or {EMBEDDED!r}"
        )
    if not named["file"]:
        return fetched_pipeline(model, weights, parts)
    _checked(place, parts)
    # Its tensors tell whose configuration it has, unless that is given.
    return fetched("model", model, [], weights or parts.config is None)


def find_part(name: str, allow_pickle: bool, weights: bool = True) -> Path:
    """One part, such as an autoencoder: a folder, a single file, or a hub id's. Raises ``ModelError``.

    Without ``weights`` those of a hub id are not fetched; the place of a single file in it may then be empty.
    """
    place = given_place(name)
    if place.is_file() and place.suffix not in (".safetensors", ".gguf") and not allow_pickle:
        raise ModelError(
            f"{name}: expected a folder, a .safetensors or .gguf file, or a hub id; --allow-pickle loads other files, "
            "which can run any code"
        )
    if place.exists():
        return place
    kinds = ["safetensors", *(["bin"] if allow_pickle else [])] if weights else []
    kind = "autoencoder, network or ControlNet"
    return fetched(kind, name, ["*.json", *(f"diffusion_pytorch_model*.{kind}" for kind in kinds)], weights)


def find_addition(name: str, allow_pickle: bool, weights: bool = True) -> Path:
    """The weight file of a LoRA, a textual inversion, an IP-Adapter or an upsampler: a file, a folder, or a hub id's.

    Without ``weights`` that of a hub id is not fetched, and its folder is returned. Raises ``ModelError``.
    """
    place = given_place(name)
    if not place.exists():
        kind = "LoRA, textual inversion, IP-Adapter or upsampler"
        place = fetched(kind, name, ["*.safetensors" if weights else "*.json"], weights)
        if not weights:
            return place
    found = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if len(found) != 1 or not found[0].is_file():
        raise ModelError(f"{name}: expected a .safetensors file, or a folder or a hub id with one; found {len(found)}")
    if found[0].suffix != ".safetensors" and not allow_pickle:
        raise ModelError(f"{name}: expected a .safetensors file; --allow-pickle loads others, which can run any code")
    return found[0]


def find_captioner(name: str, allow_pickle: bool, weights: bool = True) -> Path:
    """The folder of a captioner or of its hub id; without ``weights`` they are not fetched. Raises ``ModelError``."""
    place = given_place(name)
    if not place.is_dir():
        kinds = ["safetensors", *(["bin"] if allow_pickle else [])] if weights else []
        place = fetched("captioner", name, [*CONFIGURATION, *(f"*.{kind}" for kind in kinds)], weights)
    for needed in (["config.json"], ["preprocessor_config.json", "processor_config.json"]):
        if not any((place / file).is_file() for file in needed):
            raise ModelError(f"{name}: expected an image-to-text model in transformers' format; it has no {needed[0]}")
    return place


def find_image_encoder(parts: Parts, weights: bool = True) -> Path:
    """The folder of the vision model of IP-Adapters, or a hub id's; without ``weights`` those are not fetched.

    Raises ``ModelError``.
    """
    name = image_encoder_of(parts)
    place, named = given_place(name), HUB_ID.fullmatch(name)
    if not place.exists() and named:
        kinds = ["json", *(["safetensors"] if weights else []), *(["bin"] if weights and parts.allow_pickle else [])]
        folder = Path(named["file"] or "").parent
        name = name.removesuffix(f"/{named['file']}")
        place = fetched("image encoder", name, [(folder / f"*.{kind}").as_posix() for kind in kinds], weights) / folder
    if not (place / "config.json").is_file():
        raise ModelError(
            f"{name}: expected the image encoder of IP-Adapters, a vision model with its config.json; give its "
            "folder, or owner/name/folder/model.safetensors on the hub, with --image-encoder"
        )
    return place


def image_encoder_of(parts: Parts) -> str:
    """The image encoder that was asked for, or the one beside the first IP-Adapter."""
    if parts.image_encoder is not None:
        return parts.image_encoder
    first = parts.ip_adapters[0].path
    place, named = given_place(first), HUB_ID.fullmatch(first)
    if place.exists() or not named or not named["file"]:
        return str((place if place.is_dir() else place.parent) / "image_encoder")
    folder = Path(named["file"]).parent / "image_encoder"
    return first.removesuffix(named["file"]) + (folder / "model.safetensors").as_posix()


def captioner_of(folder: Path, parts: Parts) -> str | None:
    """The requested captioner, or that of the model whose configuration is in the folder, if it has one."""
    if parts.captioner is not None:
        return parts.captioner
    own = (read_json(folder / OWN) if (folder / OWN).exists() else {}).get("captioner")
    return None if own is None else located(str(own), folder)


def fetch(model: str, parts: Parts) -> Path:
    """Like ``find_model``, but also fetch the files that are added or replace a part. Raises ``ModelError``."""
    if parts.captioner is not None:
        find_captioner(parts.captioner, parts.allow_pickle)
    if parts.ip_adapters:
        find_image_encoder(parts)
    for part in filter(None, (parts.vae, parts.network, *(net.path for net in parts.controlnets))):
        find_part(part, parts.allow_pickle)
    return find_model(model, parts=parts)


_OF_FEW_STEPS = ("method", "scheduler", "timestep_spacing", "stages_only")


def few_steps_of(folder: Path, parts: Parts) -> dict[str, Any]:
    """The settings of a model's few-step variant; empty if it is not used.

    Raises ``ModelError`` if they are invalid, or the variant is requested but the model has none.
    """
    if parts.few_steps is False:
        return {}
    few: dict[str, Any] = (read_json(folder / OWN) if (folder / OWN).exists() else {}).get("few_steps", {})
    if parts.few_steps and not few:
        raise ModelError(
            f"{folder}: it has no few-step variant of its own; leave out --few-steps, and give one with --lora, "
            "--scheduler, --steps and --guidance-scale"
        )
    known = {"lora"} <= set(few) <= {"lora", *_OF_FEW_STEPS}
    kinds = {"lora": str, "method": dict, "stages_only": bool}
    if few and not (known and all(isinstance(few[name], kind) for name, kind in kinds.items() if name in few)):
        raise ModelError(f"{folder / OWN}: few_steps: expected lora, {', '.join(_OF_FEW_STEPS)}; got {few}")
    if few.get("stages_only"):
        of_base = [*(set(few) & {"scheduler", "timestep_spacing"}), *few.get("method", {})]
        if wrong := [name for name in of_base if not name.startswith("stage_")]:
            raise ModelError(
                f"{folder / OWN}: few_steps: with stages_only it can set nothing of the base, but it sets "
                f"{', '.join(wrong)}; expected names that begin with stage_ in method"
            )
    return few


def with_few_steps(folder: Path, parts: Parts) -> Parts:
    """The parts with those of the few-step variant instead of ``few_steps``; a requested scheduler is kept."""
    few = few_steps_of(folder, parts)
    return replace(
        parts,
        few_steps=False,
        loras=(*([_lora_of(few, folder)] if few else []), *parts.loras),
        scheduler=parts.scheduler or few.get("scheduler"),
        timestep_spacing=parts.timestep_spacing or few.get("timestep_spacing"),
    )


def _lora_of(few: Mapping[str, Any], folder: Path) -> Lora:
    return Lora(located(few["lora"], folder), stages_only=few.get("stages_only", False))


def check_exchange(place: Path, parts: Parts, compute: Compute) -> None:
    """Raise ``RequestError`` for LoRAs of the stages alone in a memory mode that cannot exchange weights."""
    if compute.memory != "sequential":
        return
    if with_few_steps(config_folder(place, parts), parts).stage_loras:
        raise RequestError(f"memory: sequential cannot exchange LoRAs between base and stages; {LEAVE_OUT_STAGES}")


def pin(model: str, parts: Parts) -> tuple[str, Parts]:
    """The model and its parts with hub ids pinned to the current commits, so that later runs find the same files, and
    with the few-step variant resolved.
    """
    loras = tuple(replace(lora, path=_pinned_addition(lora.path, parts)) for lora in parts.loras)
    words = tuple(_pinned_addition(path, parts) for path in parts.textual_inversions)
    vae, network = (
        name and pinned(name, find_part(name, parts.allow_pickle, weights=False)) for name in (parts.vae, parts.network)
    )
    captioner = parts.captioner and pinned(
        parts.captioner, find_captioner(parts.captioner, parts.allow_pickle, weights=False)
    )
    controlnets = tuple(
        replace(net, path=pinned(net.path, find_part(net.path, parts.allow_pickle, weights=False)))
        for net in parts.controlnets
    )
    adapters = tuple(replace(one, path=_pinned_addition(one.path, parts)) for one in parts.ip_adapters)
    # Recorded explicitly, because workers may have the files in another folder, without an encoder beside them.
    encoder = image_encoder_of(parts) if adapters else None
    encoder = encoder and pinned(encoder, find_image_encoder(parts, weights=False))
    upsampler = parts.upsampler and _pinned_addition(parts.upsampler, parts)
    place = find_model(model, False, parts)
    few = bool(few_steps_of(config_folder(place, parts), parts))
    found = replace(
        parts, vae=vae, network=network, loras=loras, textual_inversions=words, few_steps=few, captioner=captioner,
        controlnets=controlnets, ip_adapters=adapters, image_encoder=encoder, upsampler=upsampler,
    )  # fmt: skip
    return pinned(model, place), found


def _pinned_addition(name: str, parts: Parts) -> str:
    return pinned(name, find_addition(name, parts.allow_pickle))


def config_folder(place: Path, parts: Parts = NO_PARTS) -> Path:
    """The folder with the configuration files of a model that was found. Raises ``ModelError``."""
    if place.is_dir():
        if parts.config is not None:
            raise ModelError(f"{place}: it has a configuration of its own; leave out --model-config {parts.config}")
        return place
    name = config_name(place, parts)
    folder = given_place(name)
    if folder.is_dir():
        return folder
    try:
        return fetched("configuration", name, CONFIGURATION, weights=False)
    except ModelError as error:
        raise ModelError(
            f"{place}: a single file needs configuration files; those of {name} cannot be had here: give a folder "
            "in the diffusers format (with weights for those parts only that the file lacks) with --model-config"
        ) from error


def classes_in(folder: Path) -> dict[str, str]:
    """The class of each part in a model's ``model_index.json``. Raises ``ModelError``."""
    found: dict[str, str] = {}
    for name, value in read_json(folder / "model_index.json").items():
        # Other entries are options of the pipeline, and optional parts that are absent.
        if isinstance(value, list) and None not in value and not name.startswith("_"):
            if len(value) != 2 or not all(isinstance(word, str) for word in value):
                raise ModelError(f"{folder / 'model_index.json'}: {name}: expected a library and a class, got {value}")
            found[name] = value[1]
    return found


def _checked(place: Path, parts: Parts) -> Path:
    if place.suffix == ".gguf":
        raise ModelError(
            f"{place}: it has a network alone; give it with --network, and a model of its family with --model"
        )
    if place.suffix != ".safetensors" and not parts.allow_pickle:
        raise ModelError(
            f"{place}: expected a .safetensors file; other kinds may be pickles, which can run any code: "
            "--allow-pickle loads them, from a source that you trust"
        )
    return place


def config_name(place: Path, parts: Parts) -> str:
    """The folder or hub id with the configuration of a single file: the requested one, or diffusers' for its tensors.

    Files are recognised by the names and shapes of their tensors alone.
    """
    if parts.config is not None:
        return parts.config
    if place.suffix != ".safetensors":
        raise ModelError(f"{place}: give the folder or hub id with its configuration files with --model-config")
    import torch

    with quiet():
        from diffusers.loaders.single_file_utils import fetch_diffusers_config
    shapes = shapes_in(place).items()
    found = fetch_diffusers_config({name: torch.empty(tuple(shape), device="meta") for name, shape in shapes})
    return str(found["pretrained_model_name_or_path"])
