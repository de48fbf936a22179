"""Resampling of pictures window by window, so that an enlarged picture never exists as a whole.

Each axis is resampled by a band matrix. A window's source pixels are read on the host, and the products can be computed
on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.config.method import KernelName
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.readable import Readable, read_wrapped
from pixelsmith.system.device import staged

Kernel = KernelName
Places = NDArray[np.float64]
_REACH = 3
"""The support of the widest kernel (Lanczos with three lobes) when enlarging, in source pixels on each side."""
BLOCK = 32
"""Output pixels per matrix of weights; larger blocks multiply more zeros, smaller ones take more calls."""


def _lanczos(x: Places) -> Places:
    """Lanczos with three lobes."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _bicubic(x: Places) -> Places:
    """With a = −1/2 (Keys, "Cubic convolution interpolation", 1981)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_KERNELS: dict[Kernel, Callable[[Places], Places]] = {"lanczos": _lanczos, "bicubic": _bicubic}


@dataclass(frozen=True)
class Scaling:
    """The mapping of an enlarged picture's coordinates to those of its source.

    The corner (x, y) lies at ``left + across * x`` and ``top + down * y``.
    """

    across: float
    down: float
    left: float
    top: float

    @classmethod
    def through(cls, sizes: Sequence[Size], wrap: Wrap = NO_WRAP) -> Scaling:
        """The mapping for a picture of the first size that was scaled and cropped to cover each next size in turn.

        On an axis that wraps, the picture is not cropped but stretched.
        """
        step, left, top = 1.0, 0.0, 0.0
        for before, after in pairwise(sizes):
            own = min(before.width / after.width, before.height / after.height)
            left += step * (before.width - own * after.width) / 2
            top += step * (before.height - own * after.height) / 2
            step *= own
        first, last = sizes[0], sizes[-1]
        across, left = (first.width / last.width, 0.0) if wrap.x else (step, left)
        down, top = (first.height / last.height, 0.0) if wrap.y else (step, top)
        return cls(across, down, left, top)


@dataclass(frozen=True)
class Resized:
    """A picture scaled and cropped to cover ``target``, with its edge pixels repeated beyond the edges.

    - ``source``: its values (c, h, w), uint8 or float32; ``picture``: its size in pixels.
    - ``target``: the size of the result in pixels.
    - ``unit``: the pixels per value of the source and of the result: 1, or the latent scale.
    - ``via``: the sizes through which the picture is scaled and cropped before the target.
    - ``wrap``: the axes on which it wraps instead of being cropped and extended.

    ``read`` accepts windows beyond ``target``, for padded canvases; there the last row and column are repeated.
    """

    source: Readable
    picture: Size
    target: Size
    kernel: Kernel
    unit: int = 1
    via: tuple[Size, ...] = ()
    wrap: Wrap = NO_WRAP

    @property
    def size(self) -> Size:
        return self.target.padded(self.unit).divided(self.unit)

    def read(self, window: Window) -> Tensor:
        """The values (c, h, w) of a window of the resized picture, in the source's dtype."""
        return self.deferred(window, torch.device("cpu"))()

    def deferred(self, window: Window, device: torch.device) -> Callable[[], Tensor]:
        """Read the source of a window; the returned function computes the window on a device without waiting for it."""
        inside, rows, columns = continued(window, self.size, self.wrap)
        around = self.sees(inside)
        # The source is extended past its edges, so kernels need no special case there.
        values = read_continued(self.source, around, self.wrap)
        seen = self._origin(inside)
        left, top = seen.left - around.left, seen.top - around.top
        across = Bands.of(self.kernel, left, seen.across, inside.width, columns.numpy(), values.shape[2])
        down = Bands.of(self.kernel, top, seen.down, inside.height, rows.numpy(), values.shape[1])
        return partial(resampled, staged(values, device), down.staged(device), across.staged(device), device)

    def sees(self, window: Window) -> Window:
        """The window of the source, possibly past its edges, on which a window of the result depends."""
        seen = self._origin(window)
        x, columns = _seen(seen.left, seen.across, window.width)
        y, rows = _seen(seen.top, seen.down, window.height)
        return Window(y, x, rows, columns)

    def _origin(self, window: Window) -> Scaling:
        """The mapping of a window to the source, relative to the window's corner."""
        seen = Scaling.through((self.picture, *self.via, self.target), self.wrap)
        left = seen.left / self.unit + seen.across * window.left
        top = seen.top / self.unit + seen.down * window.top
        return Scaling(seen.across, seen.down, left, top)


@dataclass(frozen=True)
class Coarser(Resized):
    """The resized picture at a scale that is ``times`` smaller: its pixels have ``times`` pixels of the target a side.

    The sides are rounded up, so the last pixels may reach beyond the target.
    """

    times: int = 1

    @property
    def size(self) -> Size:
        return self.target.padded(self.times).divided(self.times)

    def _origin(self, window: Window) -> Scaling:
        seen = super()._origin(window.scaled(self.times))
        return Scaling(self.times * seen.across, self.times * seen.down, seen.left, seen.top)


def _seen(start: float, step: float, count: int) -> tuple[int, int]:
    """The first source value of an axis on which ``count`` output values depend, and the number of such values."""
    reach = math.ceil(_REACH * max(1.0, step)) + 1
    first = math.floor(start) - reach
    return first, math.ceil(start + step * count) + reach - first


@dataclass(frozen=True)
class LaidOver(Resized):
    """A picture with the size ``target``, scaled and cropped like the stages ``after`` it to the last of these sizes.

    Each stage is the middle of the previous one, so this picture may reach beyond the last one.
    """

    after: tuple[Size, ...] = ()

    def _origin(self, window: Window) -> Scaling:
        over = Scaling.through((self.picture, self.after[-1] if self.after else self.target), self.wrap)
        seen = Scaling.through((self.target, *self.after), self.wrap)
        across, down = over.across / seen.across, over.down / seen.down
        left, top = across * (window.left - seen.left), down * (window.top - seen.top)
        return Scaling(across, down, over.left + left, over.top + top)


@dataclass(frozen=True)
class Bands:
    """The band matrix that resamples an axis: each row has weights for a few neighbouring values.

    ``weights`` (n, k): the weights of k values; ``firsts``: the first of these, for each block of ``BLOCK`` rows.
    """

    weights: Float[Tensor, "n k"]
    firsts: tuple[int, ...]

    @classmethod
    def of(cls, kernel: Kernel, start: float, step: float, count: int, places: NDArray[np.int64], length: int) -> Bands:
        """The matrix for the output values ``places``, in ascending order, of ``count`` in all.

        Output values are ``step`` source values apart, and the first begins at ``start`` of an axis of ``length``
        values. For scaling down, the kernel is widened by the factor.
        """
        # In float32 as in Pillow, so that the pixels equal Pillow's.
        begin, end = np.float32(start), np.float32(start + step * count)
        step = float(end - begin) / count
        centres, width = float(begin) + step * (places + 0.5), max(step, 1.0)
        lowest, highest = np.floor(centres - _REACH * width), np.ceil(centres + _REACH * width)
        blocks = [slice(i, i + BLOCK) for i in range(0, len(places), BLOCK)]
        most = int(max(highest[block][-1] - lowest[block][0] for block in blocks))
        firsts = tuple(min(int(lowest[block][0]), length - most) for block in blocks)
        seen = np.repeat(firsts, BLOCK)[: len(places), None] + np.arange(most)
        weights = _KERNELS[kernel]((seen + 0.5 - centres[:, None]) / width)
        return cls(torch.from_numpy(weights / weights.sum(1, keepdims=True)), firsts)

    def staged(self, device: torch.device) -> Bands:
        """The same in pinned memory, for a copy to the device without waiting."""
        return Bands(staged(self.weights.to(_dtype_on(device)), device), self.firsts)

    def __call__(self, values: Real[Tensor, "c m w"]) -> Float[Tensor, "c n w"]:
        """Resample the rows of values."""
        # A worker receives the weights as the run's host would use them.
        weights = self.weights.to(_dtype_on(values.device)).to(values.device, non_blocking=True)
        parts = [
            # Rounded after each axis, as in Pillow.
            (block @ values[:, first : first + block.shape[1]].to(block.dtype)).float()
            for first, block in zip(self.firsts, torch.split(weights, BLOCK), strict=True)
        ]
        return torch.cat(parts, dim=1)


def resampled(values: Tensor, down: Bands, across: Bands, device: torch.device) -> Tensor:
    """Resample values (c, h, w) on both axes, on a device; the dtype does not change."""
    found = values.to(device, non_blocking=True)
    for bands in (across, down):
        found = bands(found.mT)
    return found if values.is_floating_point() else found.round().clamp(0, 255).to(values.dtype)


def _dtype_on(device: torch.device) -> torch.dtype:
    """The dtype of sums: on the host as precise as Pillow's, on other devices one that all of them support."""
    return torch.float64 if device.type == "cpu" else torch.float32


def read_continued(source: Readable, window: Window, wrap: Wrap = NO_WRAP) -> Tensor:
    """A window (c, h, w) that may reach past a picture's edges, where the picture wraps or its edge is repeated."""
    known, rows, columns = continued(window, source.size, wrap)
    return read_wrapped(source.read, known, source.size, wrap)[:, rows][:, :, columns]


def continued(window: Window, bounds: Size, wrap: Wrap = NO_WRAP) -> tuple[Window, Tensor, Tensor]:
    """The part of a window inside the bounds, and the indices of its rows and columns that extend it past them.

    On axes that wrap there are no bounds.
    """
    rows, columns = torch.arange(window.top, window.bottom), torch.arange(window.left, window.right)
    rows = rows if wrap.y else rows.clamp(0, bounds.height - 1)
    columns = columns if wrap.x else columns.clamp(0, bounds.width - 1)
    top, left = int(rows[0]), int(columns[0])
    inside = Window(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)
    return inside, rows - top, columns - left
