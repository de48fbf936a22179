"""The sources of a model's parts: its folder, its single file, or a replacement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError
from pixelsmith.families.latent_upsamplers import latent_upsampler_of
from pixelsmith.families.loading.find import (
    captioner_of,
    classes_in,
    config_folder,
    config_name,
    find_addition,
    find_captioner,
    find_image_encoder,
    find_part,
    with_few_steps,
)
from pixelsmith.families.loading.model_files import read_json, shapes_in
from pixelsmith.families.loading.weights import is_index, weight_files
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.textures import texture_of

PartSources = Mapping[str, Path | None]
"""The file or folder of each part of a model; ``None`` for an absent optional part."""
NETWORKS = ("transformer", "unet")
IN_FILES = {
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0.", "text_encoders.clip_l."),
    "text_encoder_2": ("conditioner.embedders.1.", "text_encoders.clip_g."),
    "text_encoder_3": (),
}
"""The parts that a single file may contain besides the network, by the prefixes of their tensors."""
T5 = "text_encoders.t5xxl."
"""The prefix of T5, which is Flux's second and Stable Diffusion 3's third text encoder."""
_TEXTS = (".json", ".txt", ".model", ".jinja")


def sources_of(place: Path, parts: Parts) -> PartSources:
    """The sources of a model that was found.

    Raises ``ModelError`` if a single file and its configuration's folder both lack a part.
    """
    folder = config_folder(place, parts)
    index = read_json(folder / "model_index.json")
    network = next((name for name in NETWORKS if name in index), "")
    given = {name: _given_part(given, parts) for name, given in _given(network, parts).items()}
    classes = classes_in(folder)
    own = {name: usual_source(name, place, folder) for name in classes if name not in given}
    if place.is_file():
        own = {name: source if _holds(source, name, classes[name]) else folder / name for name, source in own.items()}
        # diffusers loads none with a single file, even if the configuration's folder has its weights.
        own.pop("safety_checker", None)
    optional = architecture_of(str(index.get("_class_name")), place.name).optional
    without = [name for name, source in own.items() if _is_missing(name, source, place)]
    needed = [name for name in without if name not in optional]
    if needed and place.is_dir():
        raise ModelError(f"{place}: it has no folder {', '.join(needed)}, which its model_index.json names")
    if needed:
        raise ModelError(
            f"{place}: it has no {', '.join(needed)}, and its configuration comes without weights: give a folder that "
            "has them with --model-config, or a whole model with --model (its configuration is that of "
            f"{config_name(place, parts)}) and this file with --network"
        )
    # diffusers expects an explicit None for each part that is left out.
    return own | dict.fromkeys(set(optional) - (set(own) - set(without))) | given


def usual_source(name: str, place: Path, folder: Path) -> Path:
    """The source from which diffusers itself loads a part."""
    return place if place.is_file() and name in (*NETWORKS, *IN_FILES) else folder / name


def model_files(place: Path, parts: Parts) -> list[Path]:
    """All files that affect a model's output, including those of added parts. Raises ``ModelError``."""
    folder = config_folder(place, parts)
    parts = with_few_steps(folder, parts)
    found = sorted(folder.glob("*.json"))
    for name, source in sources_of(place, parts).items():
        found += [*_texts(folder / name), *(_part_files(source, parts) if source else [])]
    if captioner := captioner_of(folder, parts):
        found += sorted(find_captioner(captioner, parts.allow_pickle).glob("*.*"))
    for own in (texture_of(folder, parts), latent_upsampler_of(folder, parts)):
        found += sorted(own.glob("*.*")) if own else []
    for net in parts.controlnets:
        found += _part_files(find_part(net.path, parts.allow_pickle), parts)
    if parts.ip_adapters:
        found += _part_files(find_image_encoder(parts), parts)
    additions = additions_of(parts)
    return list(dict.fromkeys([*found, *(find_addition(name, parts.allow_pickle) for name in additions)]))


def additions_of(parts: Parts) -> list[str]:
    """The names of all files with weights that are added to a model's."""
    adapters = (one.path for one in parts.ip_adapters)
    upsampler = [parts.upsampler] if parts.upsampler is not None else []
    return [*(lora.path for lora in parts.loras), *parts.textual_inversions, *adapters, *upsampler]


def _given(network: str, parts: Parts) -> dict[str, str]:
    return {name: place for name, place in (("vae", parts.vae), (network, parts.network)) if place is not None}


def _given_part(name: str, parts: Parts) -> Path:
    place = find_part(name, parts.allow_pickle, weights=False)
    if place.is_dir() and not (place / "config.json").is_file():
        raise ModelError(
            f"{name}: it has no config.json: expected the folder of one part; a whole model has one for each"
        )
    return place


def _holds(file: Path, name: str, kind: str) -> bool:
    """Whether a single file contains a part; a file with unknown tensors counts as containing all."""
    tensors = shapes_in(file)
    beginnings = T5 if kind == "T5EncoderModel" else IN_FILES.get(name, ())
    return name in NETWORKS or not tensors or any(tensor.startswith(beginnings) for tensor in tensors)


def _is_missing(name: str, source: Path, place: Path) -> bool:
    """Whether a part is missing; a hub id that was not fetched yet has folders without weights."""
    if place.is_dir():
        return not source.is_dir()
    return name in IN_FILES and source.is_dir() and not any(source.glob("*model*.safetensors"))


def _part_files(source: Path, parts: Parts) -> list[Path]:
    """The file of a part, or the loaded weights and all text files of its folder."""
    if not source.is_dir():
        return [source]
    return [*_texts(source), *weight_files(source, parts.variant, parts.allow_pickle)]


def _texts(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*")) if path.suffix in _TEXTS and not is_index(path)]
