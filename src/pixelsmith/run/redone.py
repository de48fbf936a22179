"""Making part of a finished picture again, while all pixels outside of it stay unchanged.

The last stage starts from the picture itself, scaled down, so that layout and tones continue across the border. Only
the part is computed, in the same way as a preview (docs/decisions/0029-closeups.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.canvas import Array, Part, Placed
from pixelsmith.config.plans import Plan
from pixelsmith.engine.inputs import Rung
from pixelsmith.engine.stage import Cascade
from pixelsmith.errors import RequestError
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.mask import Kept
from pixelsmith.pixels.resample import Resized
from pixelsmith.run.closeup import close_up
from pixelsmith.sampling.readable import Readable

FEATHER = 48
"""The width in pixels, inside the edges of the part, over which the new picture is blended into the old one."""
MOST_PIXELS = 64_000_000
"""The largest part in pixels, because it is kept in memory."""
_SEARCHED = 4096
"""The longer side in pixels to which a mask is scaled to find its white parts."""


@dataclass(frozen=True)
class Redone:
    """A picture (3, H, W) uint8 of which ``window`` was made again, and the settings for its file."""

    picture: Readable
    window: Window
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """The part to make again: the pixels of ``window`` where ``shares`` (1, h, w), in 0..1, is above 0."""

    window: Window
    shares: Tensor

    @classmethod
    def of_region(cls, window: Window, size: Size, wrap: Wrap = NO_WRAP) -> Place:
        """A rectangle. Raises ``RequestError`` if it does not lie in a picture of this size."""
        if min(window.height, window.width) < 1 or window.cut(size) != window:
            asked = f"{window.left},{window.top},{window.width},{window.height}"
            raise RequestError(f"region: expected X,Y,W,H in pixels inside of {size}, got {asked}")
        _check_room(window)
        return cls(window, _ramped(torch.ones(1, window.height, window.width), window, size, wrap))

    @classmethod
    def of_mask(cls, mask: Readable, size: Size, wrap: Wrap = NO_WRAP) -> Place:
        """The white parts of a grey picture (3, h, w) uint8 of this aspect ratio. Raises ``RequestError``."""
        if not mask.size.resembles(size):
            raise RequestError(f"mask: expected one of the shape of {size}, got {mask.size}")
        small = mask.size.scaled(min(1.0, _SEARCHED / max(mask.size.width, mask.size.height)))
        shown = Resized(mask, mask.size, small, "lanczos").read(small.window).float().mean(0) > 0.5
        rows, columns = torch.nonzero(shown.any(1)), torch.nonzero(shown.any(0))
        if not len(rows):
            raise RequestError("mask: it is black; what is to be made again is white")
        across, down = size.width / small.width, size.height / small.height
        top, left = int((rows[0].item() - 1) * down), int((columns[0].item() - 1) * across)
        bottom, right = int((rows[-1].item() + 2) * down), int((columns[-1].item() + 2) * across)
        window = Window(top, left, bottom - top, right - left).cut(size)
        _check_room(window)
        grey = Resized(mask, mask.size, size, "lanczos").read(window).float().mean(0, keepdim=True) / 255
        return cls(window, _ramped(grey, window, size, wrap))


def redo(cascade: Cascade, the_plan: Plan, picture: Readable, place: Place) -> Readable:
    """The picture with a part made again by a cascade. Raises ``RequestError`` if the cascade has no stages."""
    stages = the_plan.stages
    if not stages or the_plan.base is None:
        raise RequestError("redo: the picture was made at once, without stages; make another one with generate")
    below = (the_plan.base, *stages)[-2].size
    small = picture.size.scaled(1 / stages[-1].size.factor_over(below))
    start = Rung(Resized(picture, picture.size, small, "lanczos", wrap=cascade.wrap), None)
    pixels = close_up(cascade, the_plan, place.window, start, len(stages) - 1, None)
    made = Array(torch.from_numpy(pixels).permute(2, 0, 1))
    mixed = Kept(made, Part(picture, place.window), Array(place.shares))
    return Placed(mixed, place.window, place.window, picture)


def _check_room(window: Window) -> None:
    if window.width * window.height > MOST_PIXELS:
        raise RequestError(
            f"redo: expected a place of at most {MOST_PIXELS:,} pixels, got {window.width}x{window.height}; make "
            "several smaller ones"
        )


def _ramped(shares: Tensor, window: Window, size: Size, wrap: Wrap) -> Tensor:
    """Shares that rise from 0 to their value over ``FEATHER`` pixels inside the edges of the part.

    There is no such ramp at the edges of the picture, except on axes on which it wraps.
    """
    reach = min(FEATHER, window.height // 3, window.width // 3) // 2
    at_sides = (window.left == 0, window.right == size.width, window.top == 0, window.bottom == size.height)
    sides = [at_side and not wraps for at_side, wraps in zip(at_sides, (wrap.x, wrap.x, wrap.y, wrap.y), strict=True)]
    padded = shares[None]
    for i, at_border in enumerate(sides):
        pad = [0, 0, 0, 0]
        pad[i] = 2 * reach
        padded = F.pad(padded, pad, mode="replicate") if at_border else F.pad(padded, pad)
    side = 2 * reach + 1
    for kernel in ((side, 1), (1, side)):
        padded = -F.max_pool2d(-padded, kernel, stride=1)
    for kernel in ((side, 1), (1, side)):
        padded = F.avg_pool2d(padded, kernel, stride=1)
    return padded[0].clamp(0, 1)
