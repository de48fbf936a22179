"""Parts of a given picture that stay what they are, seen window by window."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import read_continued
from pixelsmith.sampling.readable import Readable


@dataclass(frozen=True)
class Feathered:
    """A grey picture (3, H, W) in 0..255 as shares (1, H, W) in 0..1, whose edges are ramps ``width`` pixels wide.

    Farther than half of that from an edge the shares are what they were. Width 0 leaves them as they are.
    """

    grey: Readable
    width: int
    wrap: Wrap = NO_WRAP

    @property
    def size(self) -> Size:
        return self.grey.size

    def read(self, window: Window) -> Tensor:
        reach = self.width // 2
        around = window.around(reach)
        shares = read_continued(self.grey, around, self.wrap).float().mean(0, keepdim=True) / 255
        side = 2 * reach + 1
        return F.avg_pool2d(F.avg_pool2d(shares, (side, 1), stride=1), (1, side), stride=1).clamp(0, 1)


@dataclass(frozen=True)
class Kept:
    """A refined picture where ``shares`` is 1, the original where it is 0, and the two mixed between: (3, H, W).

    All have the same size. Only what counts in a window is read for it.
    """

    refined: Readable
    original: Readable
    shares: Readable

    @property
    def size(self) -> Size:
        return self.refined.size

    def read(self, window: Window) -> Tensor:
        shares = self.shares.read(window)
        if shares.min() == 1:
            return self.refined.read(window)
        original = self.original.read(window)
        if shares.max() == 0:
            return original
        refined = self.refined.read(window)
        mixed = original.float().lerp(refined.float(), shares)
        return mixed if refined.is_floating_point() else mixed.round().to(refined.dtype)
