"""Regional prompts: estimates with the prompt of each region, blended by the regions' shares of each latent."""

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
"""A region is used in a patch if its bounding box covers more than this share of the patch, as in Krita's plugin for
image generation, or, for a region smaller than a patch, if more than this share of its box lies in the patch."""
_LATTICE = 16
"""The largest number of windows along an axis from which the mean number of prompts per patch is estimated."""
_NEAR = 0.5
"""The distance in pixels up to which a polygon's edge counts as the picture's edge, because percentages are rounded."""
_INSIDE = 0.01
"""Positions beyond the picture's edge are moved this many pixels inside it, so that a region extends past the edge."""

Box = tuple[float, float, float, float]
Shares = Float[Tensor, "h w"]
Axis = Float[Tensor, " _"]


@runtime_checkable
class Mask(Protocol):
    """The area of a region, in pixels of the result."""

    @property
    def bounds(self) -> Box:
        """The bounding box: left, top, right, bottom."""
        ...

    def __call__(self, x: Axis, y: Axis) -> Shares:
        """The shares (h, w) in 0..1 of the region at columns ``x`` (w,) and rows ``y`` (h,), float64."""
        ...


@dataclass(frozen=True)
class Polygon:
    """The inside of a polygon by the even-odd rule, with linear ramps of ``feather`` pixels at its edges.

    There is no ramp at an edge that lies on the picture's edge, because the region extends beyond it. If the picture
    wraps, the region and its ramps continue at the opposite edge.
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
        # Parts beyond an edge of the picture, such as half of a ramp, appear at the opposite edge.
        downs = (-self.picture.height, 0, self.picture.height) if self.wrap.y else (0,)
        acrosses = (-self.picture.width, 0, self.picture.width) if self.wrap.x else (0,)
        found = [self._once(x + across, y + down) for down in downs for across in acrosses]
        return torch.stack(found).sum(0).clamp_max(1)

    def _once(self, x: Axis, y: Axis) -> Shares:
        """The shares in a picture that does not wrap."""
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
    """A grey picture (h, w) uint8 that covers the whole result: white (255) belongs to the region."""

    grey: UInt8[Tensor, "h w"]
    picture: Size
    wrap: Wrap = NO_WRAP

    @property
    def bounds(self) -> Box:
        # By interpolation a value has an effect up to the centres of its neighbours.
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
    """Linear interpolation along an axis of ``side`` pixels with ``count`` values.

    Returns the indices of both neighbours and the weight of the second one.
    """
    at = places * count / side - 0.5
    at = at if wraps else at.clamp(0, count - 1)
    first = at.floor()
    if wraps:
        return first.long() % count, (first.long() + 1) % count, (at - first).float()
    return first.long(), (first.long() + 1).clamp_max(count - 1), (at - first).float()


@dataclass(frozen=True)
class Layers:
    """The layers of a canvas: the picture's own prompt at the bottom, and each region over the earlier ones.

    - ``masks`` and ``strengths`` (0..1) of the regions; ``picture``: the size of the result in pixels.
    - ``across``, ``down``, ``left``, ``top``: the corner of the latent at (row, column) of the canvas is at ``left +
      across·column`` and ``top + down·row`` of the result.
    - ``wrap``: the axes on which the picture wraps and windows may reach over its edges.
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
        """The shares of the layers, the picture's own prompt first; at each latent they add up to 1."""
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
        # On axes that wrap, parts beyond an edge are kept, because a window at the opposite edge shows them.
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
    """The centres of latents on an axis of the result, in pixels."""
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

    ``owners``: the index of each layer's denoiser. For each patch only the denoisers with a share of it are called.
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
    """For each text, its index among the distinct texts in order of first occurrence."""
    distinct = list(dict.fromkeys(texts))
    return tuple(distinct.index(text) for text in texts)


def shares_of(layers: Layers, owners: Sequence[int], window: Window) -> Float[Tensor, "owners h w"]:
    """The shares of the owners: the sum over the layers of each."""
    shares = layers.shares(window)
    return shares.new_zeros(max(owners) + 1, *shares.shape[1:]).index_add_(0, torch.tensor(owners), shares)


def estimates_per_patch(layers: Layers, owners: Sequence[int], canvas: Size, patch: Size) -> float:
    """The mean number of owners with a share of a patch, over windows spread evenly over the canvas."""
    windows = list(_lattice(canvas, patch))
    return fmean(int(shares_of(layers, owners, window).flatten(1).any(1).sum()) for window in windows)


def _lattice(canvas: Size, patch: Size) -> Iterator[Window]:
    width, height = min(patch.width, canvas.width), min(patch.height, canvas.height)
    for top in _spread(canvas.height, height):
        for left in _spread(canvas.width, width):
            yield Window(top, left, height, width)


def _spread(side: int, patch: int) -> list[int]:
    """The starts of windows that are spread evenly along an axis, several per patch."""
    most = min(_LATTICE, 4 * math.ceil(side / patch), side - patch + 1)
    return [round(i * (side - patch) / max(1, most - 1)) for i in range(most)]
