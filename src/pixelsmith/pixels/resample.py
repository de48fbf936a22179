"""A picture seen at a larger size, computed window by window: the enlarged picture never exists as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoise import Readable

Kernel = Literal["lanczos", "bicubic"]
_KERNELS = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
_REACH = 3
"""Source pixels on each side that the widest kernel (Lanczos, three lobes) looks at when it enlarges."""


@dataclass(frozen=True)
class Resized:
    """A picture scaled to cover ``target``, cut around its centre where the shapes differ, continued at the edges.

    - ``source``: its values (c, h, w), uint8 or float32; ``picture``: its size in pixels.
    - ``target``: the size in pixels to see it at.
    - ``unit``: pixels that one value of the source and of the result stands for: 1, or the latent scale.

    ``read`` may ask for windows beyond ``target``, as a padded canvas does: the last row and column go on there.
    """

    source: Readable
    picture: Size
    target: Size
    kernel: Kernel
    unit: int = 1

    @property
    def size(self) -> Size:
        return self.target.padded(self.unit).divided(self.unit)

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window of the resized picture, in the source's dtype."""
        bounds = self.size
        top, left = min(window.top, bounds.height - 1), min(window.left, bounds.width - 1)
        inside = Window(top, left, window.bottom - top, window.right - left).cut(bounds)
        values = self._resized(inside)
        rows = torch.arange(window.top, window.bottom).clamp(max=inside.bottom - 1) - top
        columns = torch.arange(window.left, window.right).clamp(max=inside.right - 1) - left
        return values if inside == window else values[:, rows][:, :, columns]

    def _resized(self, window: Window) -> Tensor:
        step = min(self.picture.width / self.target.width, self.picture.height / self.target.height)
        # The side that decides has no margin, but rounding may leave a hair's breadth below 0.
        left = max(0.0, (self.picture.width - step * self.target.width) / 2) / self.unit + step * window.left
        top = max(0.0, (self.picture.height - step * self.target.height) / 2) / self.unit + step * window.top
        right = min(left + step * window.width, self.source.size.width)
        bottom = min(top + step * window.height, self.source.size.height)
        reach = math.ceil(_REACH * max(1.0, step)) + 1
        x, y = math.floor(left), math.floor(top)
        region = Window(y, x, math.ceil(bottom) - y, math.ceil(right) - x).grown(reach, self.source.size)
        box = (left - region.left, top - region.top, right - region.left, bottom - region.top)
        values = self.source.read(region)
        # In float32: Pillow's 8-bit mode rounds between its two passes, and then a window differs from the whole.
        channels = [
            np.asarray(Image.fromarray(channel).resize((window.width, window.height), _KERNELS[self.kernel], box=box))
            for channel in values.float().contiguous().numpy()
        ]
        resized = torch.from_numpy(np.stack(channels))
        return resized if values.is_floating_point() else resized.round().clamp(0, 255).to(values.dtype)
