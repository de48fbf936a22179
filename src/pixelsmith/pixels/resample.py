"""A picture seen at a larger size, computed window by window: the enlarged picture never exists as a whole.

Each axis is resampled by a matrix of few diagonals. So a window is read on the host, in the pixels of its source, and
can be computed wherever it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.readable import Readable, read_wrapped
from pixelsmith.system.device import staged

Kernel = Literal["lanczos", "bicubic"]
Places = NDArray[np.float64]
_REACH = 3
"""Source pixels on each side that the widest kernel (Lanczos, three lobes) looks at when it enlarges."""
BLOCK = 32
"""Places whose weights are one matrix: more of them multiply more zeros, fewer take more calls."""


def _lanczos(x: Places) -> Places:
    """Of three lobes."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


def _bicubic(x: Places) -> Places:
    """With a = −1/2 (Keys, "Cubic convolution interpolation", 1981)."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


_KERNELS: dict[Kernel, Callable[[Places], Places]] = {"lanczos": _lanczos, "bicubic": _bicubic}


@dataclass(frozen=True)
class Scaling:
    """Where the pixels of an enlarged picture lie in the one it was made from: at ``left + across * x`` and
    ``top + down * y``, in corners.
    """

    across: float
    down: float
    left: float
    top: float

    @classmethod
    def through(cls, sizes: Sequence[Size], wrap: Wrap = NO_WRAP) -> Scaling:
        """Of a picture that was made to cover each of these sizes in turn, the first its own, cut around its centre.

        On an axis that wraps nothing can be cut: all of it becomes all of the next one.
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
    """A picture scaled to cover ``target``, cut around its centre where the shapes differ, continued at the edges.

    - ``source``: its values (c, h, w), uint8 or float32; ``picture``: its size in pixels.
    - ``target``: the size in pixels to see it at.
    - ``unit``: pixels that one value of the source and of the result stands for: 1, or the latent scale.
    - ``via``: sizes on the way to the target, which a picture that it lies over was cut to in turn.
    - ``wrap``: on which axes it wraps, in place of being cut and continued.

    ``read`` may ask for windows beyond ``target``, as a padded canvas does: the last row and column go on there.
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
        """The same window, read from the source; to be computed on a device, which this thread does not wait for."""
        inside, rows, columns = continued(window, self.size, self.wrap)
        around = self.sees(inside)
        # Past the source its edge goes on: so no kernel ever meets an edge, and any window equals that of the whole.
        values = read_continued(self.source, around, self.wrap)
        seen = self._origin(inside)
        left, top = seen.left - around.left, seen.top - around.top
        across = Bands.of(self.kernel, left, seen.across, inside.width, columns.numpy(), values.shape[2])
        down = Bands.of(self.kernel, top, seen.down, inside.height, rows.numpy(), values.shape[1])
        return partial(resampled, staged(values, device), down.staged(device), across.staged(device), device)

    def sees(self, window: Window) -> Window:
        """What a window depends on, in the values of the source and past its edges."""
        seen = self._origin(window)
        x, columns = _seen(seen.left, seen.across, window.width)
        y, rows = _seen(seen.top, seen.down, window.height)
        return Window(y, x, rows, columns)

    def _origin(self, window: Window) -> Scaling:
        """Where the values of a window lie in the source, counted from the window's corner."""
        seen = Scaling.through((self.picture, *self.via, self.target), self.wrap)
        left = seen.left / self.unit + seen.across * window.left
        top = seen.top / self.unit + seen.down * window.top
        return Scaling(seen.across, seen.down, left, top)


def _seen(start: float, step: float, count: int) -> tuple[int, int]:
    """The first value of an axis that so many places depend on, and how many do."""
    reach = math.ceil(_REACH * max(1.0, step)) + 1
    first = math.floor(start) - reach
    return first, math.ceil(start + step * count) + reach - first


@dataclass(frozen=True)
class LaidOver(Resized):
    """A picture that is laid over the last of the sizes ``after``, as it lies over the ``target`` on the way there.

    Each of these pictures is the middle of the one before it, so this one may go beyond what lies over the last.
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
    """The matrix that resamples an axis: each of its rows has weights for a few neighbouring values, and 0 for others.

    ``weights`` (n, k) are those of k values; the first of these is ``firsts`` for each block of ``BLOCK`` rows.
    """

    weights: Float[Tensor, "n k"]
    firsts: tuple[int, ...]

    @classmethod
    def of(cls, kernel: Kernel, start: float, step: float, count: int, places: NDArray[np.int64], length: int) -> Bands:
        """Of some of ``count`` places, in rising order; the first begins at ``start`` of an axis of so many values.

        They lie ``step`` values apart. A kernel that shrinks is as much wider.
        """
        # In float32, as Pillow has them: so pictures are those that it would make.
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
        """The same, for a device to take without waiting."""
        return Bands(staged(self.weights.to(_dtype_on(device)), device), self.firsts)

    def __call__(self, values: Real[Tensor, "c m w"]) -> Float[Tensor, "c n w"]:
        """The rows of values, resampled."""
        weights = self.weights.to(values.device, non_blocking=True)
        parts = [
            # Rounded after each axis, as Pillow does.
            (block @ values[:, first : first + block.shape[1]].to(block.dtype)).float()
            for first, block in zip(self.firsts, torch.split(weights, BLOCK), strict=True)
        ]
        return torch.cat(parts, dim=1)


def resampled(values: Tensor, down: Bands, across: Bands, device: torch.device) -> Tensor:
    """Values (c, h, w) resampled on both axes, on a device, in the dtype that they have."""
    found = values.to(device, non_blocking=True)
    for bands in (across, down):
        found = bands(found.mT)
    return found if values.is_floating_point() else found.round().clamp(0, 255).to(values.dtype)


def _dtype_on(device: torch.device) -> torch.dtype:
    """What sums are computed in: on the host as exactly as Pillow does, elsewhere in what all devices have."""
    return torch.float64 if device.type == "cpu" else torch.float32


def read_continued(source: Readable, window: Window, wrap: Wrap = NO_WRAP) -> Tensor:
    """A window (c, h, w) that may reach past a picture's edges: there it wraps, or its edge goes on."""
    known, rows, columns = continued(window, source.size, wrap)
    return read_wrapped(source.read, known, source.size, wrap)[:, rows][:, :, columns]


def continued(window: Window, bounds: Size, wrap: Wrap = NO_WRAP) -> tuple[Window, Tensor, Tensor]:
    """The part of a window inside the bounds, and the rows and columns of that part which continue it past them.

    On axes that wrap there are no bounds.
    """
    rows, columns = torch.arange(window.top, window.bottom), torch.arange(window.left, window.right)
    rows = rows if wrap.y else rows.clamp(0, bounds.height - 1)
    columns = columns if wrap.x else columns.clamp(0, bounds.width - 1)
    top, left = int(rows[0]), int(columns[0])
    inside = Window(top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1)
    return inside, rows - top, columns - left
