"""The identity of a picture in ComfyUI: digests of its model with all patches, and of its conditioning."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

PASSING = ("uuid", "model_conds")
"""Entries of conditioning that differ between processes, and are left out of the digest."""


def digest_of(*values: object) -> str:
    """SHA-256 of nested values: of the numbers of tensors and arrays, of the class and weights of objects."""
    total = hashlib.sha256()
    for value in values:
        _add(total, value)
    return total.hexdigest()


def model_digest(patcher: Any, vae: Any) -> str:
    """The digest of a model's weights as loaded, of its patches, and of an autoencoder."""
    unpatched = {name: kept.weight for name, kept in patcher.backup.items()}
    weights = {f"{name}": value for name, value in patcher.model.state_dict().items()}
    options = patcher.model_options.get("transformer_options", {})
    return digest_of(
        {**weights, **unpatched}, patcher.patches, options.get("patches", {}), vae.first_stage_model.state_dict()
    )


def _add(total: Any, value: object) -> None:
    if isinstance(value, torch.Tensor):
        total.update(f"{value.dtype}{tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        total.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    elif isinstance(value, Mapping):
        for name in sorted(value, key=str):
            if name not in PASSING:
                total.update(f"{name}=".encode())
                _add(total, value[name])
    elif isinstance(value, list | tuple):
        total.update(f"[{len(value)}]".encode())
        for item in value:
            _add(total, item)
    elif value is None or isinstance(value, str | int | float | bool):
        total.update(repr(value).encode())
    else:
        total.update(type(value).__qualname__.encode())
        _add(total, getattr(value, "weights", None))
