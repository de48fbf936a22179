"""A picture seen at a larger size, computed window by window: the enlarged picture never exists as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.readable import Readable

Kernel = Literal["lanczos", "bicubic"]
_KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
_REACH = 3
"""Source pixels on each side that the widest kernel (Lanczos, three lobes) looks at when it enlarges."""


@dataclass(frozen=True)
class Scaling:
    """Where the pixels of an enlarged picture lie in the one it was made from: at ``left + step * x``, in corners."""

    step: float
    left: float
    top: float

    @classmethod
    def through(cls, sizes: Sequence[Size]) -> Scaling:
        """Of a picture that was made to cover each of these sizes in turn, the first its own, cut around its centre."""
        step, left, top = 1.0, 0.0, 0.0
        for before, after in pairwise(sizes):
            own = min(before.width / after.width, before.height / after.height)
            left += step * (before.width - own * after.width) / 2
            top += step * (before.height - own * after.height) / 2
            step *= own
        return cls(step, left, top)


@dataclass(frozen=True)
class Resized:
    """A picture scaled to cover ``target``, cut around its centre where the shapes differ, continued at the edges.

    - ``source``: its values (c, h, w), uint8 or float32; ``picture``: its size in pixels.
    - ``target``: the size in pixels to see it at.
    - ``unit``: pixels that one value of the source and of the result stands for: 1, or the latent scale.
    - ``via``: sizes on the way to the target, which a picture that it lies over was cut to in turn.

    ``read`` may ask for windows beyond ``target``, as a padded canvas does: the last row and column go on there.
    """

    source: Readable
    picture: Size
    target: Size
    kernel: Kernel
    unit: int = 1
    via: tuple[Size, ...] = ()

    @property
    def size(self) -> Size:
        return self.target.padded(self.unit).divided(self.unit)

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window of the resized picture, in the source's dtype."""
        inside, rows, columns = continued(window, self.size)
        return self._resized(inside)[:, rows][:, :, columns]

    def sees(self, window: Window) -> Window:
        """What a window depends on, in the values of the source and past its edges."""
        step, left, top = self._origin(window)
        reach = math.ceil(_REACH * max(1.0, step)) + 1
        x, y = math.floor(left) - reach, math.floor(top) - reach
        columns = math.ceil(left + step * window.width) + reach - x
        rows = math.ceil(top + step * window.height) + reach - y
        return Window(y, x, rows, columns)

    def _origin(self, window: Window) -> tuple[float, float, float]:
        """Values of the source for each one of the result, and where the window begins in the source."""
        seen = Scaling.through((self.picture, *self.via, self.target))
        left = seen.left / self.unit + seen.step * window.left
        top = seen.top / self.unit + seen.step * window.top
        return seen.step, left, top

    def _resized(self, window: Window) -> Tensor:
        step, left, top = self._origin(window)
        around = self.sees(window)
        x, y = around.left, around.top
        # Past the source its edge goes on: so no kernel ever meets an edge, and any window equals that of the whole.
        inside, row_indices, column_indices = continued(around, self.source.size)
        values = self.source.read(inside)[:, row_indices][:, :, column_indices]
        box = (left - x, top - y, left - x + step * window.width, top - y + step * window.height)
        # In float32: Pillow's 8-bit mode rounds between its two passes, and then a window differs from the whole.
        channels = [
            np.asarray(Image.fromarray(channel).resize((window.width, window.height), _KERNELS[self.kernel], box=box))
            for channel in values.float().contiguous().numpy()
        ]
        resized = torch.from_numpy(np.stack(channels))
        return resized if values.is_floating_point() else resized.round().clamp(0, 255).to(values.dtype)


def continued(window: Window, bounds: Size) -> tuple[Window, Tensor, Tensor]:
    """The part of a window inside the bounds, and the rows and columns of that part which continue it past them."""
    rows = torch.arange(window.top, window.bottom).clamp(0, bounds.height - 1)
    columns = torch.arange(window.left, window.right).clamp(0, bounds.width - 1)
    top, left = int(rows[0]), int(columns[0])
    inside = Window(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)
    return inside, rows - top, columns - left
