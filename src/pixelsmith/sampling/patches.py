"""Patches that cover a canvas, and how much each counts where they meet.

Every latent pixel moves once per step (paper, section 3.2, after DiffInfinite). Here all patches of a step read the
canvas from before the step, and what they write is a weighted sum whose weights add up to one at every pixel: so the
patches of a step do not depend on each other, nor on their order.
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
    """A window that the network denoises in one call and ``weights`` (h, w) in 0..1 of its result in the canvas."""

    window: Window
    weights: PatchWeights


@runtime_checkable
class Tiling(Protocol):
    """Patches that cover a canvas, made when they are asked for: a canvas of any size takes no memory.

    At every pixel of the canvas the weights of the patches over it add up to 1.
    """

    @property
    def canvas(self) -> Size: ...

    @property
    def largest(self) -> Size:
        """What holds the part with weights above 0 of any patch."""
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
        """The patches that overlap this window, in rising order."""
        ...

    def images(self, window: Window) -> Iterable[Window]:
        """The windows that patches over a window are to be looked for in: itself, and where the canvas wraps each that
        shows the same places, for there patches reach over its edges.
        """
        ...


@runtime_checkable
class Coverage(Protocol):
    """Patches for each step of a stage."""

    def patches(self, step: int) -> Tiling:
        """The patches of step ``step``."""
        ...

    def count(self, step: int) -> int:
        """How many patches that step has."""
        ...


def fewest_patches(canvas: Size, patch: Size) -> int:
    """The number of patches that tile the canvas without overlap."""
    return math.ceil(canvas.width / patch.width) * math.ceil(canvas.height / patch.height)


def dilation(canvas: Size, patch: Size) -> int:
    """The smallest s, at least 1, for which every s-th latent of the canvas on both axes is no more than a patch."""
    return max(math.ceil(canvas.width / patch.width), math.ceil(canvas.height / patch.height))


def support(weights: PatchWeights) -> tuple[int, int]:
    """Where weights along an axis are above 0, and for how long."""
    there = np.flatnonzero(weights)
    return (int(there[0]), int(there[-1] - there[0]) + 1) if len(there) else (0, 0)
