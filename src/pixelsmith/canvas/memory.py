"""A canvas in memory."""

from __future__ import annotations

import torch
from torch import Tensor

from pixelsmith.geometry import Size, Window


class MemoryCanvas:
    """An array of zeros (channels, height, width): float32 latents, or uint8 pixels."""

    def __init__(self, channels: int, size: Size, dtype: torch.dtype = torch.float32) -> None:
        self._values = torch.zeros(channels, size.height, size.width, dtype=dtype)

    @classmethod
    def holding(cls, values: Tensor) -> MemoryCanvas:
        """A canvas over these values (c, h, w), not copied."""
        canvas = cls(0, Size(1, 1))
        canvas._values = values
        return canvas

    @property
    def size(self) -> Size:
        return Size(self._values.shape[2], self._values.shape[1])

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window inside the canvas; a view, not to be written to."""
        return self._values[(..., *window.slices)]

    def write(self, window: Window, values: Tensor) -> None:
        self._values[(..., *window.slices)] = values

    def add(self, window: Window, values: Tensor) -> None:
        self._values[(..., *window.slices)] += values
