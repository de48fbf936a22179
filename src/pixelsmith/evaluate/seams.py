"""Seam metrics: the gradient at borders of patches or tiles, compared with the gradient next to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.patches import Tiling
from pixelsmith.sampling.readable import Readable

Mask = NDArray[np.bool_]
_BESIDE = (-3, -2, 2, 3)
"""The distances from a border, in latents, of the gradients for comparison: near, but not blurred by it."""
JUMP = 0.5
"""The least share of the weights that changes at a jump, more than in a ramp of two latents."""
_PLAIN = 1e-9
"""Differences in grey values below which neither picture has any."""
_BAND = 16
"""Latent rows of the picture that are processed at a time."""


@dataclass(frozen=True, eq=False)
class Borders:
    """The borders of patches on a canvas of (h, w) latents, of ``scale`` pixels each.

    ``across`` (h, w - 1): whether there is a border between a latent and its right neighbour; ``down`` (h - 1, w): the
    same for the neighbour below.
    """

    across: Mask
    down: Mask
    scale: int

    @classmethod
    def of(cls, tilings: Iterable[Tiling], size: Size, scale: int) -> Borders:
        """The borders of patches and tiles in the part ``size`` (latents) of their canvas.

        A border lies where another patch has the largest weight, in the middle of an averaged band, or where weights
        jump, such as where the window of a random patch ends inside its band.
        """
        across = np.zeros((size.height, size.width - 1), bool)
        down = np.zeros((size.height - 1, size.width), bool)
        for tiling in tilings:
            owner = _owners(tiling)[: size.height, : size.width]
            jumps = [_shares_moved(tiling, axis)[: size.height, : size.width] >= JUMP for axis in (0, 1)]
            across |= (owner[:, 1:] != owner[:, :-1]) | jumps[1][:, : size.width - 1]
            down |= (owner[1:] != owner[:-1]) | jumps[0][: size.height - 1]
        return cls(across, down, scale)


def _owners(tiling: Tiling) -> NDArray[np.int32]:
    """The patch with the largest weight at each latent (h, w)."""
    shape = (tiling.canvas.height, tiling.canvas.width)
    owner, most = np.full(shape, -1, np.int32), np.zeros(shape, np.float32)
    for index, patch in enumerate(tiling):
        inside = patch.window.slices
        ahead = patch.weights > most[inside]
        owner[inside][ahead] = index
        most[inside][ahead] = patch.weights[ahead]
    return owner


def _shares_moved(tiling: Tiling, axis: int) -> NDArray[np.float32]:
    """The share of the weights, 0..1, that changes between each latent (h, w) and the next one on an axis."""
    height, width = tiling.canvas.height, tiling.canvas.width
    moved = np.zeros((height, width), np.float32)
    for patch in tiling:
        window = patch.window
        # Weights are 0 outside of a patch's window; the end of the canvas is no edge.
        padded = np.pad(patch.weights, [(1, 1) if i == axis else (0, 0) for i in (0, 1)])
        changes = np.abs(np.diff(padded, axis=axis)) / 2
        top, left = (window.top - (axis == 0), window.left - (axis == 1))
        first = (max(0, -top), max(0, -left))
        part = changes[first[0] : height - top, first[1] : width - left]
        moved[top + first[0] :, left + first[1] :][: part.shape[0], : part.shape[1]] += part
    return moved


def seam_index(picture: Readable, borders: Borders) -> float:
    """Mean absolute difference of neighbouring pixels across borders, divided by that across edges of latents beside.

    1 if borders are like other edges, above 1 if they are visible; lower is better, at least 0, without an upper bound.
    Differences depend on the local content of the picture, so each border is compared with the edges two and three
    latents away. ``picture`` (3, H, W) in 0..255 is read in bands. Without a border or a neighbour, not a number.
    """
    on, beside = 0.0, 0.0
    for axis, mask in ((1, borders.across), (0, borders.down)):
        gradient = gradients(picture, borders.scale, axis, mask.shape)
        reference, known = _beside(gradient, mask, axis)
        on += float(gradient[mask & known].sum())
        beside += float(reference[mask & known].sum())
    return on / beside if beside > 0 else float("nan")


def seam_excess(picture: Readable, reference: Readable, borders: Borders) -> float:
    """Differences across borders relative to those at the same edges of another picture of the same scene.

    Both pictures share their content and the noise that they were made from, so this detects far smaller seams than
    ``seam_index``, except those that both have. With a and b the mean absolute differences across an edge of latents
    in the picture and in ``reference``, c is the mean of (a - b) / (a + b) at the borders, minus that of the edges two
    and three latents away; the result is (1 + c) / (1 - c). 1 if borders are like other edges, 5 if differences are
    five times as large at borders alone; lower is better, at least 0. Without a border, not a number.
    """
    total, count = 0.0, 0
    for axis, mask in ((1, borders.across), (0, borders.down)):
        own, other = (gradients(pixels, borders.scale, axis, mask.shape) for pixels in (picture, reference))
        apart = (own - other) / np.maximum(own + other, _PLAIN)
        beside, known = _beside(apart, mask, axis)
        total += float((apart - beside)[mask & known].sum())
        count += int((mask & known).sum())
    mean = total / count if count else float("nan")
    return (1 + mean) / (1 - mean)


def gradients(picture: Readable, scale: int, axis: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean absolute difference across each edge of latents (``scale`` pixels each) on an axis.

    ``axis`` and ``shape`` are 1 and (h, w - 1) for edges to the right, 0 and (h - 1, w) for those below, as in
    ``Borders``.
    """
    height, width = shape
    found = np.zeros(shape)
    for top in range(0, height, _BAND):
        rows = min(_BAND, height - top)
        window = Window(top * scale, 0, (rows + (axis == 0)) * scale, (width + (axis == 1)) * scale)
        pixels = picture.read(window.cut(picture.size)).numpy().astype(np.float32)
        # A canvas may be padded beyond its picture, where the last row and column are repeated.
        pixels = np.pad(
            pixels, ((0, 0), (0, window.height - pixels.shape[1]), (0, window.width - pixels.shape[2])), mode="edge"
        )
        lines = np.moveaxis(pixels, axis + 1, 0)
        jumps = np.abs(lines[scale::scale] - lines[scale - 1 : -1 : scale]).mean(1)
        by_latent = jumps.reshape(len(jumps), -1, scale).mean(2)
        found[top : top + rows] = by_latent if axis == 0 else by_latent.T
    return found


def _beside(gradient: NDArray[np.float64], mask: Mask, axis: int) -> tuple[NDArray[np.float64], Mask]:
    """The mean gradient of nearby edges that are no borders, and the mask of edges that have any."""
    total, count = np.zeros_like(gradient), np.zeros(gradient.shape)
    for offset in _BESIDE:
        here, there = slice(max(0, -offset), min(0, -offset) or None), slice(max(0, offset), min(0, offset) or None)
        mine, other = ((slice(None), part) if axis else (part,) for part in (here, there))
        plain = ~mask[other]
        total[mine] += gradient[other] * plain
        count[mine] += plain
    return total / np.maximum(count, 1), count > 0
