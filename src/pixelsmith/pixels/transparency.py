"""Transparent pictures: extending their colours into transparent areas, and joining colours and alpha."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvips
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.readable import Readable

_SMALL = 512
"""The side in pixels of the small picture on which colours are extended."""
_WHITE = 255.0


@dataclass(frozen=True)
class WithAlpha:
    """A picture (3, H, W) and its alpha (1, H, W), 0 transparent to 255 opaque, as one (4, H, W), not premultiplied."""

    colours: Readable
    alpha: Readable

    @property
    def size(self) -> Size:
        return self.colours.size

    def read(self, window: Window) -> Tensor:
        return torch.cat([self.colours.read(window), self.alpha.read(window)])


def with_colours_spread(colours: pyvips.Image, alpha: pyvips.Image) -> pyvips.Image:
    """Colours (sRGB, uchar), with those of transparent pixels replaced by nearby visible colours.

    The stored colours of transparent pixels are arbitrary and, after upsampling and denoising, would show as a fringe
    at the edges. Opaque pixels do not change.
    """
    width, height = colours.width, colours.height
    share = alpha / 255
    scale = min(1.0, _SMALL / max(width, height))
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    weighted = (colours * share).bandjoin(share).resize(across / width, vscale=down / height, kernel="linear")
    small = torch.from_numpy(weighted.numpy().reshape(down, across, 4).copy()).permute(2, 0, 1)[None].float()
    spread = np.ascontiguousarray(_spread(small)[0].permute(1, 2, 0).numpy())
    behind = pyvips.Image.new_from_array(spread, interpretation="srgb")
    behind = behind.resize(width / across, vscale=height / down, kernel="linear")
    filled = colours * share + behind * (1 - share)
    return filled.rint().cast("uchar").copy(interpretation="srgb")


def _spread(weighted: Float[Tensor, "1 4 h w"]) -> Float[Tensor, "1 3 h w"]:
    """Colours from colours times weights, and weights of 0 to 1; missing weight is filled from coarser levels.

    The pull-push of Gortler et al., "The Lumigraph" (SIGGRAPH 1996), section 3.3. White if all weights are 0.
    """
    colours, share = weighted[:, :3], weighted[:, 3:].clamp(0, 1)
    height, width = weighted.shape[2:]
    if height * width == 1:
        return colours / share if share > 0 else torch.full_like(colours, _WHITE)
    coarse = F.avg_pool2d(weighted, 2, ceil_mode=True)
    # Weights are raised up to 1, so that half a block at the border of the visible area counts as a whole one.
    coarse = coarse * (1 / coarse[:, 3:].clamp(0.25, 1)).clamp(1, 4)
    behind = F.interpolate(_spread(coarse), size=(height, width), mode="bilinear", align_corners=False)
    return colours + (1 - share) * behind
