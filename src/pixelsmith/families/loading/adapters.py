"""LoRA and textual inversion: small trained additions to a loaded pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.parts import LEAVE_OUT_STAGES, Lora, Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.architecture import network_of
from pixelsmith.families.loading.find import find_addition
from pixelsmith.families.loading.quantised import is_quantised
from pixelsmith.families.loading.sources import NETWORKS
from pixelsmith.families.shared.stage_weights import StageWeights

_OF_ENCODER = {"clip_l": "", "clip_g": "_2", "t5": "_2"}
"""The names of each text encoder's vectors in files for two of them: SDXL's CLIPs, Flux.1's CLIP and T5."""


def add_loras(pipeline: Any, parts: Parts, model: str) -> StageWeights | None:
    """Fuse low-rank weights into those of the network and the text encoders, so that they cost no time in a run.

    With quantised weights they are kept separate, because the sums would have to be quantised again. Returns the
    weights that differ between the base and the stages, if any do.

    Raises ``ModelError`` if the file cannot be used, or the pipeline does not support it.
    """
    everywhere, in_stages = ([lora for lora in parts.loras if lora.stages_only is only] for only in (False, True))
    if everywhere:
        _fuse(pipeline, everywhere, parts.allow_pickle, model)
    if not in_stages:
        return None
    network = network_of(pipeline)
    if is_quantised(network):
        raise ModelError(f"{in_stages[0].path}: it cannot be exchanged in a quantised network; {LEAVE_OUT_STAGES}")
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    _fuse(pipeline, in_stages, parts.allow_pickle, model)
    now = dict(network.named_parameters())
    base = {name: weight for name, weight in before.items() if not torch.equal(weight, now[name])}
    return StageWeights(network, base)


def _fuse(pipeline: Any, loras: Sequence[Lora], allow_pickle: bool, model: str) -> None:
    """Fuse LoRAs that are all for the base and the stages, or all for the stages alone."""
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelError(f"{model}: {type(pipeline).__name__} does not support LoRA")
    names = [f"lora-{i}" for i in range(len(loras))]
    for name, lora in zip(names, loras, strict=True):
        file = find_addition(lora.path, allow_pickle)
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
        except Exception as error:
            raise ModelError(f"{lora.path}: it is no LoRA of {model}: {reason_of(error)}") from error
    if missing := set(names) - {name for found in pipeline.get_list_adapters().values() for name in found}:
        path = loras[names.index(min(missing))].path
        raise ModelError(f"{path}: it has no weights for {model}, which is a {type(pipeline).__name__}")
    pipeline.set_adapters(names, [lora.weight for lora in loras])
    if is_quantised(network_of(pipeline)):
        return
    # By default Flux.1 and Chroma fuse the network's alone, and the text encoders' would be lost below. Prompts are
    # encoded once for the base and the stages.
    changed = [part for part in pipeline.get_list_adapters() if part in NETWORKS or not loras[0].stages_only]
    pipeline.fuse_lora(components=changed, adapter_names=names)
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
