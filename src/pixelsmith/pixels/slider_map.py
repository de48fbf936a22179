"""The Slider map of a stage: a position of the Slider for each latent, computed window by window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.config.recommended import SLIDER_MAPS
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.resample import Resized, read_continued
from pixelsmith.sampling.readable import Readable

SIGMA = 4.0
"""The standard deviation in pixels of the Gaussian that is subtracted from a picture to get its detail."""
FLAT, BUSY = 6.0, 10.4
"""Local detail, in grey values, up to which an area is flat and from which on it is busy. In real pictures it is below
5.2 in a third of the area and below 10.4 in half of it (docs/decisions/0023-held-structure.md)."""
CHAINED = 0.3
"""The flatness of a flat area in stages after the first. The first leaves less detail there than real pictures have.
Moderated as much, each further stage would leave still less, until forest is fog
(docs/decisions/0023-held-structure.md)."""
_RADIUS = 3 * round(SIGMA)
_SMOOTHING = torch.tensor([0.25, 0.5, 0.25])


@dataclass(frozen=True)
class LocalDetail:
    """The detail of each block of a picture: the smoothed root mean square of its high band, in grey values.

    ``picture``: (3, H, W) in 0..255; ``block``: the side in pixels of the block for each value (1, h, w).
    """

    picture: Readable
    block: int
    wrap: Wrap = NO_WRAP

    @property
    def size(self) -> Size:
        return self.picture.size.padded(self.block).divided(self.block)

    def read(self, window: Window) -> Tensor:
        # The number of blocks on each side on which a value depends.
        reach = math.ceil(_RADIUS / self.block) + 1
        around = window.around(reach)
        pixels = read_continued(self.picture, around.scaled(self.block), self.wrap).float()
        energy = F.avg_pool2d((pixels - _blurred(pixels)).square().mean(0, keepdim=True), self.block)
        smooth = F.conv2d(energy[:, None], (_SMOOTHING[:, None] * _SMOOTHING)[None, None])[:, 0]
        return smooth[:, reach - 1 :, reach - 1 :][:, : window.height, : window.width].sqrt()


def _blurred(pixels: Tensor) -> Tensor:
    kernel = torch.exp(-0.5 * (torch.arange(-_RADIUS, _RADIUS + 1) / SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    x = F.pad(pixels[None], (_RADIUS,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[..., None], groups=3)
    return F.conv2d(x, kernel[..., None, :], groups=3)[0]


@dataclass(frozen=True)
class Flatness:
    """``most`` where the previous stage is flat, 0 where it is busy.

    ``detail``: its ``LocalDetail``, at the canvas's size.
    """

    detail: Resized
    most: float

    @property
    def size(self) -> Size:
        return self.detail.size

    def read(self, window: Window) -> Tensor:
        return self.most * ((BUSY - self.detail.read(window)) / (BUSY - FLAT)).clamp(0, 1)


@dataclass(frozen=True)
class Even:
    """The same position everywhere."""

    size: Size
    position: float

    def read(self, window: Window) -> Tensor:
        return torch.full((1, window.height, window.width), self.position)


@dataclass(frozen=True)
class Painted:
    """Positions from a grey picture of any size with the result's aspect ratio: white (255) is 1, black is 0.

    ``grey``: the picture resized to the canvas.
    """

    grey: Resized

    @property
    def size(self) -> Size:
        return self.grey.size

    def read(self, window: Window) -> Tensor:
        return self.grey.read(window).float().mean(0, keepdim=True) / 255


def slider_map(kind: str, position: float, picture: Size, latent_scale: int, wrap: Wrap = NO_WRAP) -> Readable:
    """The Slider map of a stage whose picture has the size ``picture`` in pixels.

    ``kind``: one of ``SLIDER_MAPS`` or the path of a grey picture. Raises ``PictureError`` if that cannot be read.
    """
    canvas = picture.padded(latent_scale).divided(latent_scale)
    if kind in SLIDER_MAPS:
        return Even(canvas, position)
    painted = read_picture(Path(kind))
    return Painted(Resized(painted, painted.size, canvas, "bicubic", wrap=wrap))


def flatness_map(
    below: Readable, picture: Size, latent_scale: int, wrap: Wrap = NO_WRAP, *, most: float = 1.0
) -> Readable:
    """The flatness of a stage for each latent: ``most`` where the picture ``below`` is flat, 0 where it is busy."""
    detail = LocalDetail(below, latent_scale, wrap)
    return Flatness(Resized(detail, below.size, picture, "bicubic", latent_scale, wrap=wrap), most)
