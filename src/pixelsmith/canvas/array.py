"""An array in memory with the interface of a canvas."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pixelsmith.geometry import Size, Window


@dataclass(frozen=True, eq=False)
class Array:
    """Values (c, h, w) in memory."""

    values: Tensor

    @property
    def size(self) -> Size:
        return Size(self.values.shape[2], self.values.shape[1])

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window inside the array, as a view that must not be modified."""
        return self.values[(..., *window.slices)]
