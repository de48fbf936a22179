"""LoRA and textual inversion: small trained additions to a loaded pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import network_of
from pixelsmith.families.loading.find import find_addition
from pixelsmith.families.loading.quantised import is_quantised

_OF_ENCODER = {"clip_l": "", "clip_g": "_2", "t5": "_2"}
"""The names of each text encoder's vectors in files for two of them: SDXL's CLIPs, Flux.1's CLIP and T5."""


def add_loras(pipeline: Any, parts: Parts, model: str) -> None:
    """Fuse low-rank weights into those of the network and the text encoders, so that they cost no time in a run.

    With quantised weights they are kept separate, because the sums would have to be quantised again.

    Raises ``ModelError`` if the file cannot be used, or the pipeline does not support it.
    """
    if not parts.loras:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{model}: {type(pipeline).__name__} does not support LoRA")
    names = [f"lora-{i}" for i in range(len(parts.loras))]
    for name, lora in zip(names, parts.loras, strict=True):
        file = find_addition(lora.path, parts.allow_pickle)
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
        except Exception as error:
            raise ModelError(f"{lora.path}: it is no LoRA of {model}: {reason_of(error)}") from error
    if missing := set(names) - {name for found in pipeline.get_list_adapters().values() for name in found}:
        path = parts.loras[names.index(min(missing))].path
        raise ModelError(f"{path}: it has no weights for {model}, which is a {type(pipeline).__name__}")
    pipeline.set_adapters(names, [lora.weight for lora in parts.loras])
    if is_quantised(network_of(pipeline)):
        return
    # By default Flux.1 and Chroma fuse the network's alone, and the text encoders' would be lost below.
    pipeline.fuse_lora(components=list(pipeline.get_list_adapters()), adapter_names=names)
    pipeline.unload_lora_weights()


def add_textual_inversions(pipeline: Any, parts: Parts, model: str) -> None:
    """Add new words to the text encoders, named like the files. Raises ``ModelError``."""
    for path in parts.textual_inversions:
        if not hasattr(pipeline, "load_textual_inversion"):
            raise ModelError(f"{model}: {type(pipeline).__name__} does not support textual inversion")
        file = find_addition(path, parts.allow_pickle)
        try:
            _add_words(pipeline, file)
        except Exception as error:
            raise ModelError(f"{path}: it is no textual inversion of {model}: {reason_of(error)}") from error


def _add_words(pipeline: Any, file: Path) -> None:
    if not hasattr(pipeline, "text_encoder_2"):
        pipeline.load_textual_inversion(str(file), token=file.stem)
        return
    from safetensors.torch import load_file

    for key, vectors in load_file(file).items():
        encoder, tokenizer = (getattr(pipeline, f"{name}{_OF_ENCODER[key]}") for name in ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(vectors, token=file.stem, text_encoder=encoder, tokenizer=tokenizer)
