"""LoRA and textual inversion: small trained additions to a loaded pipeline."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pixelsmith.errors import MissingPartError, ModelError
from pixelsmith.parts import Parts


def add_loras(pipeline: Any, parts: Parts, model: str) -> None:
    """Add low-rank weights to the network's (and text encoders') own, for good: they cost nothing while it runs.

    Raises ``MissingPartError`` without peft, and ``ModelError`` where the file or the pipeline does not serve.
    """
    if not parts.loras:
        return
    if find_spec("peft") is None:
        raise MissingPartError("LoRA needs peft, which is not installed: pip install 'pixelsmith[lora]'")
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{model}: {type(pipeline).__name__} takes no LoRA")
    names = [f"lora-{i}" for i in range(len(parts.loras))]
    for name, lora in zip(names, parts.loras, strict=True):
        folder, file = _weights(lora.path, parts)
        try:
            pipeline.load_lora_weights(folder, weight_name=file, adapter_name=name)
        except Exception as error:
            raise ModelError(f"{lora.path}: it is no LoRA of {model}: {error}") from error
    if missing := set(names) - {name for found in pipeline.get_list_adapters().values() for name in found}:
        path = parts.loras[names.index(min(missing))].path
        raise ModelError(f"{path}: it has no weights for {model}, which is a {type(pipeline).__name__}")
    pipeline.set_adapters(names, [lora.weight for lora in parts.loras])
    pipeline.fuse_lora(adapter_names=names)
    pipeline.unload_lora_weights()


def add_textual_inversions(pipeline: Any, parts: Parts, model: str) -> None:
    """Teach the text encoders new words: the names of the files. Raises ``ModelError``."""
    for path in parts.textual_inversions:
        if not hasattr(pipeline, "load_textual_inversion"):
            raise ModelError(f"{model}: {type(pipeline).__name__} takes no textual inversion")
        folder, file = _weights(path, parts)
        try:
            _add_words(pipeline, Path(folder) / file)
        except Exception as error:
            raise ModelError(f"{path}: it is no textual inversion of {model}: {error}") from error


def _add_words(pipeline: Any, file: Path) -> None:
    if not hasattr(pipeline, "text_encoder_2"):
        pipeline.load_textual_inversion(str(file), token=file.stem)
        return
    # SDXL's files hold one embedding for each of its text encoders.
    from safetensors.torch import load_file

    vectors = load_file(file)
    for key, suffix in (("clip_l", ""), ("clip_g", "_2")):
        encoder, tokenizer = (getattr(pipeline, f"{name}{suffix}") for name in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(vectors[key], token=file.stem, text_encoder=encoder, tokenizer=tokenizer)


def _weights(path: str, parts: Parts) -> tuple[str, str]:
    """The folder and the name of a weight file, which may be given as the folder that it is in."""
    place = Path(path).expanduser()
    files = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    if len(files) != 1 or not files[0].is_file():
        raise ModelError(f"{path}: expected a .safetensors file or a folder with one")
    if files[0].suffix != ".safetensors" and not parts.allow_pickle:
        raise ModelError(f"{path}: expected a .safetensors file; --allow-pickle takes others, which can run any code")
    return str(files[0].parent), files[0].name
