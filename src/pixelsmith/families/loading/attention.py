"""Attention backends of networks."""

from __future__ import annotations

from typing import Any

import torch

from pixelsmith.errors import RequestError, reason_of
from pixelsmith.families.loading.quiet import quiet

_ON_CPU = ("native", "_native_math")
_WITHOUT_DISPATCH = ("native", "xformers")
"""The backends of networks that do not use diffusers' attention dispatcher, such as its U-Nets."""


def backends() -> list[str]:
    """The names of diffusers' attention backends, without those (``_hub``) that download and run code."""
    from diffusers.models.attention_dispatch import AttentionBackendName

    return sorted(backend.value for backend in AttentionBackendName if not backend.value.endswith("_hub"))


def set_attention(network: Any, backend: str, device: torch.device) -> None:
    """Set the attention backend of a U-Net or transformer.

    Raises ``RequestError`` if the backend is unknown, not installed, or not supported by this network or device.
    """
    if backend not in backends():
        raise RequestError(f"attention: expected one of {', '.join(backends())}, got {backend!r}")
    if device.type == "cpu" and backend not in _ON_CPU:
        raise RequestError(f"attention: {backend} needs a GPU; on the CPU expected one of {', '.join(_ON_CPU)}")
    processors = (getattr(module, "processor", None) for module in network.modules())
    dispatches = any(hasattr(processor, "_attention_backend") for processor in processors)
    if not dispatches and backend not in _WITHOUT_DISPATCH:
        name, known = type(network).__name__, ", ".join(_WITHOUT_DISPATCH)
        raise RequestError(f"attention: {name} does not support {backend}; expected one of {known}")
    try:
        with quiet():
            _set(network, backend, dispatches)
    except (ImportError, RuntimeError, ValueError) as error:
        raise RequestError(
            f"attention: {backend} cannot be used here: {reason_of(error)}; --attention native is PyTorch's own"
        ) from error


def _set(network: Any, backend: str, dispatches: bool) -> None:
    from diffusers.models.attention_dispatch import attention_backend

    if dispatches:
        # Setting it also makes it the default of the process, which the context restores for other models.
        with attention_backend(backend):
            network.set_attention_backend(backend)
    elif backend == "xformers":
        network.enable_xformers_memory_efficient_attention()
