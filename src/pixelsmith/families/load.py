"""Find a model, read its facts from its configuration files, load it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from pixelsmith.errors import ModelError, RequestError
from pixelsmith.families.protocol import Family
from pixelsmith.families.quiet import quiet
from pixelsmith.geometry import Size
from pixelsmith.plan import ModelFacts
from pixelsmith.request import EMBEDDED, Compute


def find_model(model: str, weights: bool = True) -> Path:
    """The folder of a model: the embedded one, a folder, or a hub id (fetched into the hub's cache if needed).

    Without ``weights`` only the configuration files of a hub id are fetched. Raises ``ModelError``.
    """
    folder = Path(str(files("pixelsmith.embedded"))) / "model" if model == EMBEDDED else Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model == EMBEDDED or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ModelError(f"unknown model {model!r}: expected a folder, a hub id such as owner/name, or {EMBEDDED!r}")
    from huggingface_hub import snapshot_download

    try:
        if not weights:
            return Path(snapshot_download(model, allow_patterns=["*.json"]))
        from diffusers import DiffusionPipeline

        with quiet():
            return Path(DiffusionPipeline.download(model, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise ModelError(f"unknown model {model!r}: there is no such folder, and the hub said: {error}") from error


def read_facts(folder: Path, name: str) -> ModelFacts:
    """What planning needs, from the JSON files of a diffusers folder. Raises ``ModelError``."""
    pipeline = _read_json(folder / "model_index.json").get("_class_name")
    if pipeline not in _FAMILIES:
        raise ModelError(f"{name}: its pipeline is {pipeline}; supported are {', '.join(sorted(_FAMILIES))}")
    unet, vae = (_read_json(folder / part / "config.json") for part in ("unet", "vae"))
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    try:
        scale = 2 ** (len(vae["block_out_channels"]) - 1)
        sample = unet["sample_size"]
        height, width = sample if isinstance(sample, list) else (sample, sample)
        return ModelFacts(
            name=name,
            pipeline=pipeline,
            native_size=Size(width * scale, height * scale),
            latent_scale=scale,
            latent_channels=unet["in_channels"],
            latent_multiple=2 ** (len(unet["block_out_channels"]) - 1),
            train_steps=scheduler["num_train_timesteps"],
            weight_bytes=sum(path.stat().st_size for path in folder.rglob("*.safetensors")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{name}: its configuration lacks what a {pipeline} has: {error}") from error


def load_family(folder: Path, facts: ModelFacts, compute: Compute) -> Family:
    """Load a model onto its device. Raises ``ModelError``, and ``RequestError`` for a device that is not there."""
    device = choose_device(compute.device)
    from diffusers import DiffusionPipeline

    try:
        with quiet():
            pipeline = DiffusionPipeline.from_pretrained(
                folder, dtype=choose_dtype(compute.dtype, device), use_safetensors=True, local_files_only=True
            ).to(device)
    except Exception as error:
        # A damaged part fails in the library that reads it, each with errors of its own.
        raise ModelError(f"{facts.name}: it cannot be loaded: {type(error).__name__}: {error}") from error
    return _FAMILIES[facts.pipeline]()(pipeline, facts)


def choose_device(name: str) -> torch.device:
    """The device asked for, or the best one here. Raises ``RequestError`` where it is not available."""
    available = [kind for kind in ("cuda", "mps", "xpu") if getattr(torch, kind).is_available()] + ["cpu"]
    if name != "auto" and name not in available:
        raise RequestError(f"device: {name} is not available here; expected auto or one of {', '.join(available)}")
    return torch.device(available[0] if name == "auto" else name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype asked for; by itself half precision where the hardware computes in it, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        # Only matrix units make bf16 the faster one: without any bf16 instructions it is several times slower than
        # float32, and with those of AVX-512 alone a network was still measured at 0.7 times float32's speed.
        return torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16") else torch.float32
    return torch.float16


def _stable_diffusion() -> Callable[[Any, ModelFacts], Family]:
    from pixelsmith.families.stable_diffusion import StableDiffusion

    return StableDiffusion


# Each family is imported when a model needs it: diffusers takes seconds to import.
_FAMILIES: dict[str, Callable[[], Callable[[Any, ModelFacts], Family]]] = {
    "StableDiffusionPipeline": _stable_diffusion,
}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path.parent}: not a model in the diffusers format ({error})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected an object, got {type(values).__name__}")
    return values
