"""Pipelines of diffusers that the caller has loaded, as families that use their modules without a copy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.request import EMBEDDED
from pixelsmith.errors import RunError
from pixelsmith.families.architecture import Configs, DiffusersFamily, network_of
from pixelsmith.families.latent_upsamplers import latent_upsampler_of
from pixelsmith.families.loading.facts import facts_of
from pixelsmith.families.loading.find import NO_PARTS, OWN, find_model
from pixelsmith.families.loading.loader import load_own_networks, overflows
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.families.registry import architecture_of
from pixelsmith.families.shared.schedules import config_of
from pixelsmith.families.textures import texture_of


def read_pipeline(name: str, **options: Any) -> Any:
    """``DiffusionPipeline.from_pretrained`` with these options, also for the embedded model."""
    import diffusers

    if "torch_dtype" not in options:
        # diffusers' documented default; transformers would use the files' dtype, so the parts would differ.
        options = {"dtype": torch.float32, **options}
    if name != EMBEDDED:
        return diffusers.DiffusionPipeline.from_pretrained(name, **options)
    with quiet():
        return diffusers.DiffusionPipeline.from_pretrained(find_model(name), **options)


@contextmanager
def family_of(pipeline: Any) -> Iterator[DiffusersFamily]:
    """A loaded pipeline as a family, on its current devices and with all changes made to it.

    In this context an autoencoder that overflows in float16 is float32, as when its own pipeline decodes. Raises
    ``ModelError`` if no family supports the pipeline's class.
    """
    facts, folder = pipeline_facts(pipeline), _folder_of(pipeline)
    architecture, device = architecture_of(facts.pipeline, facts.name), pipeline._execution_device
    texture, doubler = load_own_networks(folder, NO_PARTS, facts, device, pipeline.vae.dtype)
    upcast, dtype = overflows(architecture, pipeline.vae), pipeline.vae.dtype
    if upcast:
        pipeline.vae.to(torch.float32)
    try:
        yield DiffusersFamily(architecture, pipeline, facts, device, texture=texture, latent_upsampler=doubler)
    finally:
        if upcast:
            pipeline.vae.to(dtype)


def pipeline_facts(pipeline: Any) -> ModelFacts:
    """The facts of a loaded pipeline. Raises ``ModelError``."""
    folder = _folder_of(pipeline)
    textured = texture_of(folder, NO_PARTS) is not None
    doubles = latent_upsampler_of(folder, NO_PARTS) is not None
    facts = facts_of(_configs(pipeline), _name_of(pipeline), folder / OWN, textured=textured, doubles=doubles)
    numbers = {value.data_ptr(): value.numel() for _, value in _weights(pipeline)}
    return replace(facts, parameters=sum(numbers.values()))


def network_dtype(pipeline: Any) -> torch.dtype:
    """The dtype in which a pipeline's network computes."""
    dtype: torch.dtype = network_of(pipeline).dtype
    return dtype


def pipeline_digest(pipeline: Any) -> str:
    """SHA-256 of a loaded pipeline's weights and configurations.

    Raises ``RunError`` if weights are not in memory.
    """
    configs = json.dumps(_configs(pipeline), sort_keys=True, default=str)
    total = hashlib.sha256(configs.encode())
    for name, value in _weights(pipeline):
        if value.is_meta:
            raise RunError(
                f"the pipeline's {name} is not in memory, so the identity of a run cannot be recorded; a run directory "
                "needs a pipeline without sequential offload"
            )
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _weights(pipeline: Any) -> Iterator[tuple[str, Tensor]]:
    for part, module in sorted(pipeline.components.items()):
        if isinstance(module, nn.Module):
            yield from ((f"{part}.{name}", value) for name, value in module.state_dict().items())


def _configs(pipeline: Any) -> Configs:
    """The configurations of its parts, as in a model folder."""
    found: dict[str, Mapping[str, Any]] = {
        "index": {**pipeline.config, "_class_name": type(pipeline).__name__},
        "scheduler": config_of(pipeline.scheduler),
    }
    for name in ("vae", "unet", "transformer"):
        if (part := pipeline.components.get(name)) is not None:
            found[name] = {**part.config, "_class_name": type(part).__name__}
    return found


def _name_of(pipeline: Any) -> str:
    """The folder or hub id from which it was loaded, or its class."""
    return str(pipeline.config.get("_name_or_path") or type(pipeline).__name__)


def _folder_of(pipeline: Any) -> Path:
    """The folder that it was read from; of a hub id one that is not there."""
    return Path(_name_of(pipeline))
