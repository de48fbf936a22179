"""The regions of a request on the canvases of its stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyvips
import torch
from torch import Tensor

from pixelsmith.config.regions import Region
from pixelsmith.errors import PictureError
from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.pixels.mask import Feathered
from pixelsmith.pixels.reading import FilePicture, reason, upright
from pixelsmith.pixels.resample import Resized, Scaling
from pixelsmith.sampling.regional import Layers, Mask, Painted, Polygon

SIDE = 1024
"""The longer side of a painted mask in pixels, at most, because it is sent with each job of a worker."""


def layers_of(
    regions: Sequence[Region], picture: Size, rungs: Mapping[int, Size], scale: int, wrap: Wrap = NO_WRAP
) -> dict[int, Layers]:
    """The regions of a picture on the canvas of each stage, by its number; a latent covers ``scale`` pixels a side.

    ``rungs``: the sizes in pixels of the stages' pictures, by number; ``wrap``: the axes on which they wrap. Raises
    ``PictureError`` for a mask that cannot be read.
    """
    masks = [_mask_of(region, picture, wrap) for region in regions]
    layers = Layers(masks, [region.strength for region in regions], picture, wrap=wrap)
    numbers = sorted(rungs)
    found = {}
    for number in numbers:
        # If aspect ratios differ, a picture is cropped to its middle for the next stage.
        seen = Scaling.through([*(rungs[other] for other in numbers if other >= number), picture], wrap)
        across, down = 1 / seen.across, 1 / seen.down
        found[number] = replace(
            layers, across=across * scale, down=down * scale, left=-seen.left * across, top=-seen.top * down
        )
    return found


def _mask_of(region: Region, picture: Size, wrap: Wrap) -> Mask:
    feather = region.feather / 100 * min(picture.width, picture.height)
    if region.mask is None:
        return Polygon(region.corners(picture), feather, picture, wrap)
    target = picture.scaled(min(1.0, SIDE / max(picture.width, picture.height)))
    grey = _small(Path(region.mask))
    width = round(feather * target.width / picture.width)
    edges = Feathered(Resized(grey, grey.size, target, "bicubic", wrap=wrap), width, wrap)
    return Painted(_rounded(edges.read(target.window)[0]), picture, wrap)


def _rounded(shares: Tensor) -> Tensor:
    return (shares * 255).round().to(torch.uint8)


def _small(path: Path) -> FilePicture:
    """A picture scaled down to the size of a mask, read completely once."""
    try:
        small = upright(path).thumbnail_image(SIDE, height=SIDE, size="down")
        return FilePicture(small.copy_memory())
    except pyvips.Error as error:
        raise PictureError(f"{path}: the picture is damaged{reason(error)}") from error
