"""Where the parts of a pipeline live, and which of them at the same time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import cpu_offload
from torch import nn

from pixelsmith.config.compute import MemoryMode
from pixelsmith.errors import RequestError
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.system.device import is_out_of_memory


def bring(pipeline: Any, device: torch.device, memory: MemoryMode) -> None:
    """Bring a pipeline to its device in the way that was asked for.

    With ``encoders-released`` only the encoders of prompts come, and all else in their place with ``release_encoders``.
    Raises ``RequestError`` where the device has no memory for it.
    """
    with quiet(), _fitting(device):
        if memory == "offload":
            pipeline.enable_model_cpu_offload(device=device)
        elif memory == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        elif memory == "encoders-released":
            for name in _encoders(pipeline):
                getattr(pipeline, name).to(device)
        else:
            pipeline.to(device)


def bring_beside(network: nn.Module, device: torch.device, memory: MemoryMode) -> None:
    """Bring a ControlNet to the device of a pipeline; it stays there, but for ``sequential``, which takes it by layers.

    It works in the same calls as the network, so parts that are there one at a time would go back and forth with each.
    Raises ``RequestError`` where the device has no memory for it.
    """
    with quiet(), _fitting(device):
        if memory == "sequential":
            cpu_offload(network, device)
        else:
            network.to(device)


def release_encoders(pipeline: Any, device: torch.device) -> None:
    """Forget the encoders of prompts and bring all else to the device, so that both are never there at once."""
    for name in _encoders(pipeline):
        setattr(pipeline, name, None)
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    with quiet(), _fitting(device):
        pipeline.to(device)


def to_channels_last(module: nn.Module) -> None:
    """Another order of values for two-dimensional convolutions; those of video autoencoders have a dimension more."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def _encoders(pipeline: Any) -> list[str]:
    """Of texts, and of pictures for IP-Adapters."""
    return [
        name
        for name, part in pipeline.components.items()
        if name.startswith(("text_encoder", "image_encoder")) and isinstance(part, nn.Module)
    ]


@contextmanager
def _fitting(device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise RequestError(
            f"memory: {device} has no room for the model; --memory encoders-released, offload or sequential keep less "
            "of it there"
        ) from error
