"""Conversion of decoded values to the numbers of a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.geometry import Window


@dataclass(frozen=True)
class Encoding:
    """How a file stores pixels.

    - ``bits``: per channel: integers of 8 or 16 bits, or floats of 32 bits in 0..1.
    - ``dither``: whether 8 bits are dithered.
    - ``profile``: the colour profile of the numbers, a key of ``pixelsmith.pixels.formats.PROFILES``.
    """

    bits: int = 8
    dither: bool = False
    profile: str = "srgb"

    @property
    def floats(self) -> bool:
        return self.bits == 32

    def stored(self, values: Tensor, window: Window) -> NDArray[np.uint8]:
        """The values (c, h, w) in 0..255 of a window as bytes (h, w, c times ``bits`` / 8).

        16-bit integers are in big-endian order, floats in that of this machine.
        """
        if self.floats:
            whole = (values.float() / 255).clamp(0, 1).permute(1, 2, 0).numpy()
        elif self.bits == 16:
            whole = (values.float() * 257).round().clamp(0, 65535).permute(1, 2, 0).numpy().astype(">u2")
        elif self.dither and values.is_floating_point():
            whole = (values + thresholds(window)).floor().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
        else:
            whole = as_bytes(values).permute(1, 2, 0).numpy()
        return np.ascontiguousarray(whole).view(np.uint8)


def as_bytes(values: Tensor) -> Tensor:
    """Values in 0..255 as uint8."""
    return values.round().clamp(0, 255).to(torch.uint8) if values.is_floating_point() else values


def thresholds(window: Window) -> Tensor:
    """The dither (1, h, w) of a window, added before values are truncated: 0 to 1, evenly distributed around 1/2.

    Interleaved gradient noise (Jimenez, "Next Generation Post Processing in Call of Duty", SIGGRAPH 2014): it depends
    on the position alone, and its sums over 3 by 3 pixels are nearly the same everywhere.
    """
    y = torch.arange(window.top, window.bottom, dtype=torch.float64)[:, None]
    x = torch.arange(window.left, window.right, dtype=torch.float64)
    return (52.9829189 * ((0.06711056 * x + 0.00583715 * y) % 1) % 1).float()[None]
