"""Prompts of their own for regions: estimates with each of them, blended by the shares that regions have of a place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap, moves
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.schedule import Level

COUNTS = 0.1
"""A region counts for a patch if its bounding box covers more than this share of it, as in Krita's generator of large
pictures; a region that is smaller than a patch, if more than this share of its box lies in the patch."""
_LATTICE = 16
"""Windows a side, at most, on which it is counted how many prompts patches have."""
_NEAR = 0.5
"""Pixels from the edge of a picture at which an edge of a polygon is taken for it: percents are rounded."""
_INSIDE = 0.01
"""Pixels that places past the edge of a picture are moved inside it: there a region goes on as at the edge."""

Box = tuple[float, float, float, float]
Shares = Float[Tensor, "h w"]
Axis = Float[Tensor, " _"]


@runtime_checkable
class Mask(Protocol):
    """Where a region lies. All in pixels of the result."""

    @property
    def bounds(self) -> Box:
        """Its bounding box: left, top, right, bottom."""
        ...

    def __call__(self, x: Axis, y: Axis) -> Shares:
        """Its shares (h, w) in 0..1 at columns ``x`` (w,) and rows ``y`` (h,), float64."""
        ...


@dataclass(frozen=True)
class Polygon:
    """The inside of a polygon by the even-odd rule, its edges ramps ``feather`` pixels wide.

    Edges on that of the picture are none: the region goes on there; where the picture wraps it goes on as all of it
    does, and so does its ramp.
    """

    corners: Sequence[tuple[float, float]]
    feather: float
    picture: Size
    wrap: Wrap = NO_WRAP

    @property
    def bounds(self) -> Box:
        xs, ys = zip(*self.corners, strict=True)
        reach = self.feather / 2
        return min(xs) - reach, min(ys) - reach, max(xs) + reach, max(ys) + reach

    def __call__(self, x: Axis, y: Axis) -> Shares:
        # What is over one edge of the picture, such as half of a ramp, lies at the other one.
        downs = (-self.picture.height, 0, self.picture.height) if self.wrap.y else (0,)
        acrosses = (-self.picture.width, 0, self.picture.width) if self.wrap.x else (0,)
        found = [self._once(x + across, y + down) for down in downs for across in acrosses]
        return torch.stack(found).sum(0).clamp_max(1)

    def _once(self, x: Axis, y: Axis) -> Shares:
        """Of a picture that is not repeated."""
        across, down = x[None, :], y[:, None]
        inside = torch.zeros(len(y), len(x), dtype=torch.bool)
        nearest = torch.full(inside.shape, math.inf, dtype=x.dtype)
        for (x0, y0), (x1, y1) in pairwise([*self.corners, self.corners[0]]):
            if y0 != y1:
                crosses = (down < y0) != (down < y1)
                inside ^= crosses & (across < x0 + (down - y0) * (x1 - x0) / (y1 - y0))
            if not self._is_at_border((x0, y0), (x1, y1)):
                length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-12)
                along = (((across - x0) * (x1 - x0) + (down - y0) * (y1 - y0)) / length).clamp(0, 1)
                apart = (across - x0 - along * (x1 - x0)) ** 2 + (down - y0 - along * (y1 - y0)) ** 2
                nearest = torch.minimum(nearest, apart)
        if self.feather == 0:
            return inside.float()
        depth = torch.where(inside, 1.0, -1.0) * nearest.sqrt()
        return (0.5 + depth / self.feather).clamp(0, 1).float()

    def _is_at_border(self, start: tuple[float, float], end: tuple[float, float]) -> bool:
        sides = [(0, self.picture.width)] * (not self.wrap.x) + [(1, self.picture.height)] * (not self.wrap.y)
        return any(max(start[i], end[i]) < _NEAR or min(start[i], end[i]) > side - _NEAR for i, side in sides)


@dataclass(frozen=True, eq=False)
class Painted:
    """A grey picture (h, w) uint8 laid over the whole result: white (255) belongs to the region."""

    grey: UInt8[Tensor, "h w"]
    picture: Size
    wrap: Wrap = NO_WRAP

    @property
    def bounds(self) -> Box:
        # A value is seen as far as the middles of its neighbours.
        rows, columns = (torch.nonzero(self.grey.any(axis))[:, 0] for axis in (1, 0))
        if len(rows) == 0:
            return 0.0, 0.0, 0.0, 0.0
        height, width = (side / count for side, count in zip(self._sides, self.grey.shape, strict=True))
        return (
            (float(columns[0]) - 0.5) * width,
            (float(rows[0]) - 0.5) * height,
            (float(columns[-1]) + 1.5) * width,
            (float(rows[-1]) + 1.5) * height,
        )

    def __call__(self, x: Axis, y: Axis) -> Shares:
        (top, bottom, down), (left, right, across) = (
            _between(places, side, count, wraps)
            for places, side, count, wraps in zip(
                (y, x), self._sides, self.grey.shape, (self.wrap.y, self.wrap.x), strict=True
            )
        )
        seen = self.grey.float() / 255
        upper, lower = (torch.lerp(seen[rows][:, left], seen[rows][:, right], across) for rows in (top, bottom))
        return torch.lerp(upper, lower, down[:, None])

    @property
    def _sides(self) -> tuple[int, int]:
        return self.picture.height, self.picture.width


def _between(places: Axis, side: int, count: int, wraps: bool) -> tuple[Tensor, Tensor, Axis]:
    """The two of ``count`` values between whose middles places on an axis of ``side`` pixels lie, and how far."""
    at = places * count / side - 0.5
    at = at if wraps else at.clamp(0, count - 1)
    first = at.floor()
    if wraps:
        return first.long() % count, (first.long() + 1) % count, (at - first).float()
    return first.long(), (first.long() + 1).clamp_max(count - 1), (at - first).float()


@dataclass(frozen=True)
class Layers:
    """The regions of a picture on a canvas: the picture's own prompt below, each later region over those before it.

    - ``masks`` and ``strengths`` (0..1) of the regions; ``picture``: the size of the result in pixels.
    - ``across``, ``down``, ``left``, ``top``: the corner of a latent (row, column) of the canvas lies at ``left +
      across·column`` and ``top + down·row`` of the result.
    - ``wrap``: on which axes the picture wraps, and windows may lie over its edges.
    """

    masks: Sequence[Mask]
    strengths: Sequence[float]
    picture: Size
    across: float = 1.0
    down: float = 1.0
    left: float = 0.0
    top: float = 0.0
    wrap: Wrap = NO_WRAP

    def shares(self, window: Window) -> Float[Tensor, "layers h w"]:
        """The share of each layer, that of the picture's own prompt first; at each latent they add up to 1."""
        x = _places(self.left, self.across, window.left, window.width, self.picture.width, self.wrap.x)
        y = _places(self.top, self.down, window.top, window.height, self.picture.height, self.wrap.y)
        rest, found = torch.ones(window.height, window.width), list[Tensor]()
        for mask, strength in zip(reversed(self.masks), reversed(self.strengths), strict=True):
            own = strength * mask(x, y) if self._counts(mask, window) else torch.zeros_like(rest)
            found.append(rest * own)
            rest = rest * (1 - own)
        return torch.stack([rest, *reversed(found)])

    def _counts(self, mask: Mask, window: Window) -> bool:
        left, top, right, bottom = mask.bounds
        # On axes that wrap, what lies over an edge is not cut: a window at the other edge shows it.
        left, right = (left, right) if self.wrap.x else (max(left, 0), min(right, self.picture.width))
        top, bottom = (top, bottom) if self.wrap.y else (max(top, 0), min(bottom, self.picture.height))
        box = (left, top, right, bottom)
        seen = (
            self.left + self.across * window.left,
            self.top + self.down * window.top,
            self.left + self.across * window.right,
            self.top + self.down * window.bottom,
        )
        acrosses = moves(*seen[::2], self.picture.width, left, right) if self.wrap.x else (0,)
        downs = moves(*seen[1::2], self.picture.height, top, bottom) if self.wrap.y else (0,)
        common = sum(_area(_common(box, _moved(seen, x, y))) for x in acrosses for y in downs)
        return common > COUNTS * min(_area(box), _area(seen))


def _places(start: float, step: float, first: int, count: int, side: int, wraps: bool) -> Axis:
    """Where the middles of latents lie on an axis of the result."""
    middles = torch.arange(first, first + count, dtype=torch.float64) + 0.5
    places = start + step * middles
    return places % side if wraps else places.clamp(_INSIDE, side - _INSIDE)


def _moved(box: Box, x: float, y: float) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _common(box: Box, other: Box) -> Box:
    return max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])


def _area(box: tuple[float, ...]) -> float:
    left, top, right, bottom = box
    return max(0.0, right - left) * max(0.0, bottom - top)


@dataclass(frozen=True)
class Blended:
    """Estimates of several denoisers, each weighted by the shares of its layers.

    ``owners``: which of the denoisers each layer has. A patch pays for those that have a share of it.
    """

    denoisers: Sequence[Denoiser]
    layers: Layers
    owners: Sequence[int]

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        shares = torch.stack([shares_of(self.layers, self.owners, window) for window in windows])
        found = torch.zeros_like(x)
        for number, denoiser in enumerate(self.denoisers):
            own = [i for i in range(len(windows)) if shares[i, number].any()]
            if own:
                estimate = denoiser(x[own], level, [windows[i] for i in own])
                found[own] += shares[own, number, None].to(x.device) * estimate
        return found


def owners_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Which of the different texts, in the order in which they first come, each one is."""
    distinct = list(dict.fromkeys(texts))
    return tuple(distinct.index(text) for text in texts)


def shares_of(layers: Layers, owners: Sequence[int], window: Window) -> Float[Tensor, "owners h w"]:
    """The shares of layers, those of one owner added up."""
    shares = layers.shares(window)
    return shares.new_zeros(max(owners) + 1, *shares.shape[1:]).index_add_(0, torch.tensor(owners), shares)


def estimates_per_patch(layers: Layers, owners: Sequence[int], canvas: Size, patch: Size) -> float:
    """How many owners have a share of a patch, in the mean of windows spread evenly over the canvas."""
    windows = list(_lattice(canvas, patch))
    return fmean(int(shares_of(layers, owners, window).flatten(1).any(1).sum()) for window in windows)


def _lattice(canvas: Size, patch: Size) -> Iterator[Window]:
    width, height = min(patch.width, canvas.width), min(patch.height, canvas.height)
    for top in _spread(canvas.height, height):
        for left in _spread(canvas.width, width):
            yield Window(top, left, height, width)


def _spread(side: int, patch: int) -> list[int]:
    """Where windows begin that are spread evenly over an axis, some to each patch."""
    most = min(_LATTICE, 4 * math.ceil(side / patch), side - patch + 1)
    return [round(i * (side - patch) / max(1, most - 1)) for i in range(most)]
