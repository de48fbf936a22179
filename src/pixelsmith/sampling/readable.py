"""What the sampling loop reads from: anything with windows."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from pixelsmith.geometry import Size, Window


@runtime_checkable
class Readable(Protocol):
    """Anything whose windows can be read as tensors (c, h, w)."""

    @property
    def size(self) -> Size: ...

    def read(self, window: Window) -> Tensor: ...
