"""Serialisation of values between a run and its workers, with references to what a worker has itself.

A ``Sender`` pickles the function of a job. Parts of the model are pickled as names, which each worker resolves to its
own parts; the device becomes the worker's. Canvases and pictures are not sent, because a job carries what was read
from them (docs/decisions/0033-many-devices.md).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.patches import Coverage
from pixelsmith.sampling.readable import Readable

_SENT_AS_THEY_ARE = (type(None), bool, int, float, str, bytes, bytearray, tuple, list, dict, Tensor, Window, type)
_STAY = (Readable, Coverage)
"""Protocols whose implementations read canvases and files, and therefore stay with the run."""

PartAt = Callable[[str, Any], Any]
"""Returns a worker's part of the model by its name, with fixed normalisation statistics if they are given."""


class OfModel:
    """A placeholder for a part of the model: its name, and the fixed normalisation statistics of an autoencoder."""

    part: str
    statistics: Any = None


class Kept:
    """A placeholder for an object that stayed with the run, with the windows of it that the current job carries."""

    def __init__(self) -> None:
        self.carried: dict[Window, Tensor] = {}

    def read(self, window: Window) -> Tensor:
        """The values of a window. Raises ``LookupError`` if the job does not carry it."""
        if window not in self.carried:
            raise LookupError("a worker was asked for a place of a canvas that its job does not carry")
        return self.carried[window]


class Sender:
    """Pickles values. An object that stays here keeps its number for the sender's lifetime. It is thread-safe."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[int, Any]] = {}
        self._lock = Lock()

    def pack(self, value: Any) -> bytes:
        """Raises ``TypeError`` for values that cannot be sent, such as a lambda."""
        buffer = io.BytesIO()
        try:
            _Pickler(buffer, self._name).dump(value)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(f"it cannot be sent to a worker: {error}") from error
        return buffer.getvalue()

    def pack_job(self, inputs: Any, reads: Iterable[tuple[Readable, Window]]) -> bytes:
        """The inputs of a job, with the windows of sources that its function reads. Raises ``TypeError``."""
        return self.pack((inputs, [(source, window, source.read(window)) for source, window in reads]))

    def _name(self, value: Any) -> tuple[Any, ...] | None:
        if isinstance(value, _SENT_AS_THEY_ARE):
            return None
        if isinstance(value, OfModel):
            return "model", value.part, value.statistics
        if isinstance(value, torch.device):
            return ("device",)
        if isinstance(value, _STAY):
            with self._lock:
                # The dictionary keeps it alive, so that no other object can get the same id.
                return "kept", self._kept.setdefault(id(value), (len(self._kept), value))[0]
        return None


class Receiver:
    """Unpickles the values of one ``Sender`` in a worker, with the worker's model and device."""

    def __init__(self, part_at: PartAt, device: torch.device) -> None:
        self._part_at, self._device = part_at, device
        self._kept: dict[int, Kept] = {}

    def unpack(self, data: bytes) -> Any:
        return _Unpickler(io.BytesIO(data), self._found).load()

    def unpack_job(self, data: bytes) -> Any:
        """The inputs of a job. The windows that it carries can be read until the next job is unpacked."""
        inputs, carried = self.unpack(data)
        for kept in self._kept.values():
            kept.carried.clear()
        for source, window, values in carried:
            source.carried[window] = values
        return inputs

    def _found(self, kind: str, *name: Any) -> Any:
        if kind == "model":
            return self._part_at(*name)
        return self._device if kind == "device" else self._kept.setdefault(name[0], Kept())


def unpacked(data: bytes) -> Any:
    """A value of a ``Sender`` that contains no references."""
    return pickle.loads(data)  # noqa: S301 (from a process that this one started, or from its cluster)


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, name: Callable[[Any], tuple[Any, ...] | None]) -> None:
        super().__init__(buffer, protocol=5)
        self._name = name

    def persistent_id(self, obj: Any) -> Any:
        return self._name(obj)

    def reducer_override(self, obj: Any) -> Any:
        # PyTorch's own pickling takes ten times as long for a small tensor.
        if type(obj) is Tensor:
            values = obj.detach().cpu().contiguous()
            # As bytes, because NumPy has no bfloat16; they are copied once.
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
