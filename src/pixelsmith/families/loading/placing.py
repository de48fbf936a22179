"""Moving the parts of a pipeline to devices, according to the memory mode."""

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
    """Move a pipeline to its device in a memory mode.

    With ``encoders-released`` only the encoders of prompts are moved; ``release_encoders`` replaces them by all other
    parts. Raises ``RequestError`` if the device has too little memory.
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
    """Move a ControlNet to the device of a pipeline, where it stays; with ``sequential``, layer by layer.

    It is called together with the network, so with one part at a time both would be moved at each call. Raises
    ``RequestError`` if the device has too little memory.
    """
    with quiet(), _fitting(device):
        if memory == "sequential":
            cpu_offload(network, device)
        else:
            network.to(device)


def release_encoders(pipeline: Any, device: torch.device) -> None:
    """Free the encoders of prompts and move all other parts to the device, so that both are never there at once."""
    for name in _encoders(pipeline):
        setattr(pipeline, name, None)
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    with quiet(), _fitting(device):
        pipeline.to(device)


def to_channels_last(module: nn.Module) -> None:
    """Set the channels-last order for two-dimensional convolutions; three-dimensional ones stay as they are."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


def _encoders(pipeline: Any) -> list[str]:
    """The names of the encoders of texts, and of pictures for IP-Adapters."""
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
