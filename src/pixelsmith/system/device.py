"""What a device can fail at in the middle of a run: its memory ends, or a number leaves the range of its dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from pixelsmith.errors import DeviceError


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the device has no memory left; Apple's and some of CUDA's errors say so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """While open, the end of the device's memory is a ``DeviceError`` that says what there is no room for."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"the device has no memory for {what}; other programs may use it, and --memory offload keeps less of the "
            "model there"
        ) from error


def finite(values: Tensor, what: str) -> Tensor:
    """The same values. Raises ``DeviceError`` where one is infinite or no number, which would become black pixels."""
    if not values.isfinite().all():
        raise DeviceError(
            f"{what} is not finite: the model overflows in this dtype, try --dtype bfloat16 or float32; where it does "
            "so in float32, its weights are damaged"
        )
    return values
