"""Failures of a device during a run: exhausted memory, and values that overflow their dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pixelsmith.errors import DeviceError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means exhausted memory; Apple's, a CPU's and some of CUDA's are recognised by their text."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in words)


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """In this context exhausted memory raises a ``DeviceError`` that names ``what`` did not fit."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"the device has no memory for {what}; other programs may use it, and --memory offload keeps less of the "
            "model there"
        ) from error


def staged(values: Tensor, device: torch.device) -> Tensor:
    """The values in pinned memory on the host, for copies without waiting, if the device supports it."""
    return values.pin_memory() if device.type == "cuda" else values


def finite(values: Tensor, what: str) -> Tensor:
    """The same values. Raises ``DeviceError`` if one is infinite or NaN, which would become black pixels."""
    check_finite(values.isfinite(), what)
    return values


def check_finite(are: Tensor, what: str) -> None:
    """Raise ``DeviceError`` unless all values are finite; ``are``: whether each value, or each group of them, is."""
    if not are.all():
        raise DeviceError(
            f"{what} is not finite: the model overflows in this dtype, try --dtype bfloat16 or float32; where it does "
            "so in float32, its weights are damaged"
        )
