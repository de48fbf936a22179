"""LoRA and textual inversion: small trained additions to a loaded pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixelsmith.config.parts import LEAVE_OUT_STAGES, Lora, Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import network_of
from pixelsmith.families.loading.find import find_addition
from pixelsmith.families.loading.quantised import is_quantised
from pixelsmith.families.loading.sources import NETWORKS
from pixelsmith.families.shared.stage_weights import StageWeights

_OF_ENCODER = {"clip_l": "", "clip_g": "_2", "t5": "_2"}
"""The names of each text encoder's vectors in files for two of them: SDXL's CLIPs, Flux.1's CLIP and T5."""
_ADAPTED = ".base_layer."
"""In the names of weights that have an adapter beside them."""


def add_loras(pipeline: Any, parts: Parts, model: str) -> StageWeights | None:
    """Fuse low-rank weights into those of the network and the text encoders, so that they cost no time in a run.

    With quantised weights they are kept separate, because the sums would have to be quantised again. Returns the
    weights that differ between the base and the stages, if any do.

    Raises ``ModelError`` if the file cannot be used, or the pipeline does not support it.
    """
    network, in_stages = network_of(pipeline), parts.stage_loras
    if everywhere := [lora for lora in parts.loras if not lora.stages_only]:
        names = _add(pipeline, everywhere, parts.allow_pickle, model)
        if not is_quantised(network):
            _fuse(pipeline, names, list(pipeline.get_list_adapters()))
    if not in_stages:
        return None
    if is_quantised(network):
        raise ModelError(f"{in_stages[0].path}: it cannot be exchanged in a quantised network; {LEAVE_OUT_STAGES}")
    names = _add(pipeline, in_stages, parts.allow_pickle, model, NETWORKS)
    weights = [(name.replace(_ADAPTED, "."), weight) for name, weight in network.named_parameters() if _ADAPTED in name]
    base = {name: weight.detach().clone() for name, weight in weights}
    # Prompts are encoded once for the base and the stages, so the text encoders stay as they are.
    _fuse(pipeline, names, [part for part in NETWORKS if hasattr(pipeline, part)])
    return StageWeights(network, base)


def _add(pipeline: Any, loras: Sequence[Lora], allow_pickle: bool, model: str, needed: Sequence[str] = ()) -> list[str]:
    """Add LoRAs beside the weights, and return their names.

    ``needed``: the parts for one of which each of them must have weights; any part if it is empty.
    """
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{model}: {type(pipeline).__name__} does not support LoRA")
    names = [f"lora-{i}" for i in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        file = find_addition(lora.path, allow_pickle)
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
        except Exception as error:
            raise ModelError(f"{lora.path}: it is no LoRA of {model}: {reason_of(error)}") from error
    adapted = {part: found for part, found in pipeline.get_list_adapters().items() if not needed or part in needed}
    if missing := set(names) - {name for found in adapted.values() for name in found}:
        path = loras[names.index(min(missing))].path
        only = f"; {LEAVE_OUT_STAGES}, for those of text encoders are not used in the stages" if needed else ""
        what = f"the {' or '.join(needed)} of {model}" if needed else model
        raise ModelError(f"{path}: it has no weights for {what}, which is a {type(pipeline).__name__}{only}")
    pipeline.set_adapters(names, [lora.weight for lora in loras])
    return names


def _fuse(pipeline: Any, names: Sequence[str], parts: Sequence[str]) -> None:
    # By default Flux.1 and Chroma fuse the network's alone, and the text encoders' would be lost.
    pipeline.fuse_lora(components=parts, adapter_names=names)
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
