"""Serialisation of values between a run and its workers: what a worker has itself is sent as a name.

A ``Sender`` packs what a job computes with. In it the parts of the model are names, and each worker puts its own in
their place; the device is the worker's; canvases and pictures stay where they are, for a job carries what was read of
them (docs/decisions/0033-many-devices.md).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.patches import Coverage
from pixelsmith.sampling.readable import Readable

_SENT_AS_THEY_ARE = (type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, Tensor, Window, type)
_STAY = (Readable, Coverage)
"""Of protocols that are implemented by what reads canvases and files."""

PartAt = Callable[[str, Any], Any]
"""A worker's own part of the model by its name, with the statistics that it is to be held steady by, if there are."""


class OfModel:
    """Stands for a part of the model. ``part``: its name; ``statistics``: what a worker holds it steady by."""

    part: str
    statistics: Any = None


class Kept:
    """Stands for what stayed with the run."""

    def read(self, window: Window) -> Tensor:
        """Always raises: a job carries all that it reads."""
        raise LookupError("a worker was asked for a place of a canvas that its job does not carry")


class Sender:
    """Packs values. What stays here keeps its number as long as the sender is there; any threads may use it."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, Any]] = {}
        self._lock = Lock()

    def pack(self, value: Any) -> bytes:
        """Raises ``TypeError`` for what cannot be sent, such as a function without a name."""
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, self._name).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"it cannot be sent to a worker: {error}") from error
        return buffer.getvalue()

    def _name(self, value: Any) -> tuple[Any, ...] | None:
        if isinstance(value, _SENT_AS_THEY_ARE):
            return None
        if isinstance(value, OfModel):
            return "model", value.part, value.statistics
        if isinstance(value, torch.device):
            return ("device",)
        if isinstance(value, _STAY):
            with self._lock:
                # It is held, so that no other object gets its id.
                return "kept", self._kept.setdefault(id(value), (len(self._kept), value))[0]
        return None


class Receiver:
    """Unpacks what one ``Sender`` packed, in a worker with its own model and device."""

    def __init__(self, part_at: PartAt, device: torch.device) -> None:
        self._part_at, self._device = part_at, device
        self._kept: dict[int, Kept] = {}

    def unpack(self, data: bytes) -> Any:
        return _Unpickler(io.BytesIO(data), self._found).load()

    def _found(self, kind: str, *name: Any) -> Any:
        if kind == "model":
            return self._part_at(*name)
        return self._device if kind == "device" else self._kept.setdefault(name[0], Kept())


def unpacked(data: bytes) -> Any:
    """What a ``Sender`` packed that names nothing."""
    return pickle.loads(data)  # noqa: S301 (from a process that this one started, or from its cluster)


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, name: Callable[[Any], tuple[Any, ...] | None]) -> None:
        super().__init__(buffer, protocol=5)
        self._name = name

    def persistent_id(self, obj: Any) -> Any:
        return self._name(obj)

    def reducer_override(self, obj: Any) -> Any:
        # As torch does it a small tensor takes ten times as long.
        if type(obj) is Tensor:
            values = obj.detach().cpu().contiguous()
            # Their bytes, which are copied once: numpy has no bfloat16.
            content: Any = values.flatten().view(torch.uint8).numpy()
            data = pickle.PickleBuffer(content) if values.numel() else None
            return _tensor, (data, values.dtype, tuple(values.shape))
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, found: Callable[..., Any]) -> None:
        super().__init__(buffer)
        self._found = found

    def persistent_load(self, pid: Any) -> Any:
        return self._found(*pid)


def _tensor(data: bytearray | None, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
