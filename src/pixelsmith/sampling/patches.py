"""Patches that cover a canvas, and their weights where they overlap.

Every latent pixel moves once per step (paper, section 3.2, after DiffInfinite). Here all patches of a step read the
canvas of the previous step, and the new canvas is their weighted sum, whose weights add up to one at every pixel. So
the patches of a step depend neither on each other nor on their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pixelsmith.geometry import Size, Window

PatchWeights = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Patch:
    """A window that the network denoises in one call, and the weights (h, w) in 0..1 of its result in the canvas."""

    window: Window
    weights: PatchWeights


@runtime_checkable
class Tiling(Protocol):
    """Patches that cover a canvas. They are created on access, so a large canvas takes no memory.

    At every pixel of the canvas the weights of all patches add up to 1.
    """

    @property
    def canvas(self) -> Size: ...

    @property
    def largest(self) -> Size:
        """A size into which the part with weights above 0 of any patch fits."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Patch: ...

    def __iter__(self) -> Iterator[Patch]: ...

    def kept(self, index: int) -> Window:
        """The part of a patch's window with weights above 0; it may be empty."""
        ...

    def weights(self, index: int, window: Window) -> PatchWeights:
        """The weights (h, w) of a patch in a window inside its own."""
        ...

    def touching(self, window: Window) -> Iterable[int]:
        """The indices of the patches that overlap this window, in ascending order."""
        ...

    def images(self, window: Window) -> Iterable[Window]:
        """The windows in which to look for the patches over a window: the window itself and, if the canvas wraps, its
        repetitions, because patches reach over the edges.
        """
        ...


@runtime_checkable
class Coverage(Protocol):
    """Patches for each step of a stage."""

    def patches(self, step: int) -> Tiling:
        """The patches of step ``step``."""
        ...

    def count(self, step: int) -> int:
        """The number of patches of step ``step``."""
        ...


def fewest_patches(canvas: Size, patch: Size) -> int:
    """The number of patches that tile the canvas without overlap."""
    return math.ceil(canvas.width / patch.width) * math.ceil(canvas.height / patch.height)


def dilation(canvas: Size, patch: Size) -> int:
    """The smallest s, at least 1, for which every s-th latent on both axes of the canvas fits into a patch."""
    return max(math.ceil(canvas.width / patch.width), math.ceil(canvas.height / patch.height))


def support(weights: PatchWeights) -> tuple[int, int]:
    """The start and the length of the part of an axis in which weights are above 0."""
    there = np.flatnonzero(weights)
    return (int(there[0]), int(there[-1] - there[0]) + 1) if len(there) else (0, 0)
