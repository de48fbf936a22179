"""Masks of a given picture, and the picture that keeps its masked parts, read window by window."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import read_continued
from pixelsmith.sampling.readable import Readable


@dataclass(frozen=True)
class Feathered:
    """A grey picture (3, H, W) in 0..255 as shares (1, H, W) in 0..1, with edges softened over ``width`` pixels.

    Farther than half the width from an edge, and everywhere for width 0, the shares are unchanged.
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
    """A blend (3, H, W): the refined picture where ``shares`` is 1, the original where it is 0.

    All have the same size. A window reads only those of the two pictures that it needs.
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
