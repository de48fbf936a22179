"""Where a model is: the embedded one, a folder, a single file, or a hub id."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from pixelsmith.errors import ModelError
from pixelsmith.families.quiet import quiet, quiet_hub
from pixelsmith.parts import Parts
from pixelsmith.request import EMBEDDED

NO_PARTS = Parts()


def find_model(model: str, weights: bool = True, parts: Parts = NO_PARTS) -> Path:
    """The folder or the single file of a model; a hub id is fetched into the hub's cache if needed.

    Without ``weights`` only the configuration files of a hub id are fetched. Raises ``ModelError``.
    """
    place = Path(str(files("pixelsmith.embedded"))) / "model" if model == EMBEDDED else Path(model).expanduser()
    if place.is_dir():
        return place
    if place.is_file():
        return _checked(place, parts)
    if model == EMBEDDED or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ModelError(
            f"unknown model {model!r}: expected a folder, a .safetensors file, a hub id such as owner/name, "
            f"or {EMBEDDED!r}"
        )
    return _from_hub(model, weights, parts)


def find_part(name: str, weights: bool = True) -> Path:
    """The folder of one part, such as an autoencoder: a folder, or a hub id. Raises ``ModelError``."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "diffusion_pytorch_model*.safetensors"] if weights else ["*.json"]
    try:
        with quiet_hub():
            return Path(snapshot_download(name, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise ModelError(f"unknown part {name!r}: there is no such folder, and the hub said: {error}") from error


def model_files(model: str, parts: Parts) -> list[Path]:
    """The folders and files that decide what a model computes: its own and all that is put beside them.

    Raises ``ModelError``.
    """
    place = find_model(model, parts=parts)
    found = [place] if place.is_dir() else [place, config_folder(place, parts)]
    found += [] if parts.vae is None else [find_part(parts.vae)]
    beside = [*(lora.path for lora in parts.loras), *parts.textual_inversions]
    return [*found, *(Path(path).expanduser() for path in beside)]


def config_folder(place: Path, parts: Parts = NO_PARTS) -> Path:
    """The folder with the configuration files of a model that was found. Raises ``ModelError``."""
    if place.is_dir():
        return place
    name = parts.config or _usual_config(place)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download

        with quiet_hub():
            return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model"]))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{place}: a single file needs configuration files; those of {name} cannot be had here: give a folder "
            "in the diffusers format (its weights are not needed) with --model-config"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file. Raises ``ModelError``."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent}: not a model in the diffusers format ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected an object, got {type(values).__name__}")
    return values


def _checked(place: Path, parts: Parts) -> Path:
    if place.suffix != ".safetensors" and not parts.allow_pickle:
        raise ModelError(
            f"{place}: expected a .safetensors file; other kinds may be pickles, which can run any code: "
            "--allow-pickle takes them from a source that you trust"
        )
    return place


def _from_hub(model: str, weights: bool, parts: Parts) -> Path:
    from huggingface_hub import snapshot_download

    try:
        if not weights:
            with quiet_hub():
                return Path(snapshot_download(model, allow_patterns=["*.json"]))
        from diffusers import DiffusionPipeline

        with quiet():
            safe = None if parts.allow_pickle else True
            return Path(DiffusionPipeline.download(model, use_safetensors=safe, variant=parts.variant))
    except (OSError, ValueError) as error:
        raise ModelError(f"unknown model {model!r}: there is no such folder, and the hub said: {error}") from error


def _usual_config(place: Path) -> str:
    """The hub id that diffusers knows for a checkpoint, from the names and shapes of its tensors alone."""
    if place.suffix != ".safetensors":
        raise ModelError(f"{place}: give the folder or hub id with its configuration files with --model-config")
    import torch
    from diffusers.loaders.single_file_utils import fetch_diffusers_config
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        found = fetch_diffusers_config({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{place}: it is not a .safetensors file: {error}") from error
    return str(found["pretrained_model_name_or_path"])
