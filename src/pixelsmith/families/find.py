"""Where a model is: the embedded one, a folder, a single file, or a hub id."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from pixelsmith.errors import ModelError
from pixelsmith.families.quiet import quiet, quiet_hub
from pixelsmith.parts import Lora, Parts, located
from pixelsmith.request import EMBEDDED

OWN = "pixelsmith.json"
"""What a model folder may say of itself: ``native_size`` (pixels), ``method`` (``Recommended``), and ``few_steps``: the
``lora`` of its variant for few steps (from the folder, or a hub id), the ``method`` that is best with it, and the
``scheduler`` and ``timestep_spacing`` that it is for."""
NO_PARTS = Parts()
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?")
_TEXTS, _PICKLES = (".json", ".txt", ".model", ".jinja"), (".bin", ".ckpt", ".pt", ".pth")


def find_model(model: str, weights: bool = True, parts: Parts = NO_PARTS) -> Path:
    """The folder or the single file of a model; a hub id is fetched into the hub's cache if needed.

    Without ``weights`` only the configuration files of a hub id are fetched. Raises ``ModelError``.
    """
    place = Path(str(files("pixelsmith.embedded"))) / "model" if model == EMBEDDED else Path(model).expanduser()
    if place.is_dir():
        return place
    if place.is_file():
        return _checked(place, parts)
    if model == EMBEDDED or not _HUB_ID.fullmatch(model):
        raise ModelError(
            f"unknown model {model!r}: expected a folder, a .safetensors file, a hub id such as owner/name or "
            f"owner/name@revision, or {EMBEDDED!r}"
        )
    return _from_hub(model, weights, parts)


def find_part(name: str, weights: bool = True) -> Path:
    """The folder of one part, such as an autoencoder: a folder, or a hub id. Raises ``ModelError``."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    return _snapshot("part", name, ["*.json", "diffusion_pytorch_model*.safetensors"] if weights else ["*.json"])


def find_addition(name: str, allow_pickle: bool) -> Path:
    """The one weight file of a LoRA or textual inversion: itself, its folder, or its hub id. Raises ``ModelError``."""
    place = Path(name).expanduser()
    if not place.exists() and place.suffix != ".safetensors" and _HUB_ID.fullmatch(name):
        place = _snapshot("LoRA or textual inversion", name, ["*.safetensors"])
    found = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if len(found) != 1 or not found[0].is_file():
        raise ModelError(f"{name}: expected a .safetensors file, or a folder or a hub id with one")
    if found[0].suffix != ".safetensors" and not allow_pickle:
        raise ModelError(f"{name}: expected a .safetensors file; --allow-pickle takes others, which can run any code")
    return found[0]


def few_steps_of(folder: Path, parts: Parts) -> dict[str, Any]:
    """What a model's folder says of its variant for few steps; empty where it has none or it is not asked for.

    Raises ``ModelError``.
    """
    if not parts.few_steps or not (folder / OWN).exists():
        return {}
    few: dict[str, Any] = read_json(folder / OWN).get("few_steps", {})
    if few and not {"lora"} <= set(few) <= {"lora", "method", "scheduler", "timestep_spacing"}:
        raise ModelError(f"{folder / OWN}: few_steps: expected lora, method, scheduler, timestep_spacing; got {few}")
    return few


def with_few_steps(folder: Path, parts: Parts) -> Parts:
    """The parts with what ``few_steps`` stands for in its place; a scheduler that was asked for stays."""
    few = few_steps_of(folder, parts)
    return replace(
        parts,
        few_steps=False,
        loras=(*([Lora(located(few["lora"], folder))] if few else []), *parts.loras),
        scheduler=parts.scheduler or few.get("scheduler"),
        timestep_spacing=parts.timestep_spacing or few.get("timestep_spacing"),
    )


def pin(model: str, parts: Parts) -> tuple[str, Parts]:
    """What was asked for with what is found now: of hub ids the commits, so that the same are found again whatever is
    published later; whether the model has a variant for few steps.
    """
    loras = [
        replace(lora, path=_pinned(lora.path, find_addition(lora.path, parts.allow_pickle))) for lora in parts.loras
    ]
    vae = None if parts.vae is None else _pinned(parts.vae, find_part(parts.vae, weights=False))
    place = find_model(model, False, parts)
    few = bool(few_steps_of(config_folder(place, parts), parts))
    return _pinned(model, place), replace(parts, vae=vae, loras=tuple(loras), few_steps=few)


def _pinned(name: str, place: Path) -> str:
    folder = place if place.is_dir() else place.parent
    in_hub = _HUB_ID.fullmatch(name) and folder.parent.name == "snapshots" and not Path(name).expanduser().exists()
    return f"{name.partition('@')[0]}@{folder.name}" if in_hub else name


def model_files(model: str, parts: Parts) -> list[Path]:
    """The files that decide what a model computes: its own and all that is put beside them. Raises ``ModelError``."""
    place = find_model(model, parts=parts)
    folder = config_folder(place, parts)
    parts = with_few_steps(folder, parts)
    components = [folder / name for name, value in read_json(folder / "model_index.json").items() if _is_part(value)]
    components += [] if parts.vae is None else [find_part(parts.vae)]
    found = [*folder.glob("*.json"), *(file for part in components for file in _part_files(part, parts))]
    additions = [*(lora.path for lora in parts.loras), *parts.textual_inversions]
    added = [find_addition(name, parts.allow_pickle) for name in additions]
    return [*([place] if place.is_file() else []), *sorted(found), *added]


def _is_part(value: Any) -> bool:
    """Whether an entry of ``model_index.json`` names a library and a class."""
    return isinstance(value, list) and None not in value


def _part_files(folder: Path, parts: Parts) -> list[Path]:
    """What is read of a part's folder: the weights of the variant if it has them, and all that is text."""
    kinds = (*_TEXTS, ".safetensors", *(_PICKLES if parts.allow_pickle else ()))
    read = [path for path in folder.glob("*") if path.suffix in kinds]
    taken = parts.variant if any(_variant(path) == parts.variant for path in read) else None
    return [path for path in read if _variant(path) in (taken, "")]


def _variant(path: Path) -> str | None:
    """Of a weight file or its index: ``fp16`` of ``model.fp16-00001-of-00002.safetensors``; of other files ''."""
    *pieces, _ = path.name.split(".")[1:] or [""]
    if path.suffix in _TEXTS and "index" not in pieces:
        return ""
    named = [piece for piece in pieces if piece not in ("safetensors", "bin", "index")]
    return named[0].split("-")[0] if named else None


def config_folder(place: Path, parts: Parts = NO_PARTS) -> Path:
    """The folder with the configuration files of a model that was found. Raises ``ModelError``."""
    if place.is_dir():
        return place
    name = parts.config or _usual_config(place)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        return _snapshot("configuration", name, ["*.json", "*.txt", "*.model"])
    except ModelError as error:
        raise ModelError(
            f"{place}: a single file needs configuration files; those of {name} cannot be had here: give a folder "
            "in the diffusers format (with weights for those parts only that the file lacks) with --model-config"
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
    if not weights:
        return _snapshot("model", model, ["*.json"])
    from diffusers import DiffusionPipeline

    options = {"use_safetensors": None if parts.allow_pickle else True, "variant": parts.variant}
    return _fetched("model", model, quiet(), partial(DiffusionPipeline.download, **options))


def _snapshot(kind: str, name: str, patterns: list[str]) -> Path:
    """The files of a hub repository that match the patterns. Raises ``ModelError``."""
    from huggingface_hub import snapshot_download

    return _fetched(kind, name, quiet_hub(), partial(snapshot_download, allow_patterns=patterns))


def _fetched(kind: str, name: str, silence: AbstractContextManager[None], fetch: Callable[..., str]) -> Path:
    """What ``fetch`` puts into the hub's cache of a repository and its revision. Raises ``ModelError``."""
    from huggingface_hub.errors import GatedRepoError

    repository, _, revision = name.partition("@")
    try:
        with silence:
            return Path(fetch(repository, revision=revision or None))
    except GatedRepoError as error:
        raise ModelError(
            f"{name}: accept its terms on its page of the hub first, then log in with 'hf auth login'"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"unknown {kind} {name!r}: there is no such folder, and the hub said: {error}") from error


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
