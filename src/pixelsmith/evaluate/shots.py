"""A finished picture as the metrics see it: with its base, its borders, and crops of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pixelsmith.evaluate.seams import Borders
from pixelsmith.evaluate.structure import shrunk
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoise import Readable

CROPS = 16
"""Crops of a picture that stand for its details."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a variant.

    - ``picture``: (3, H, W) uint8; ``base``: (h, w, 3), what the model makes of prompt and seed at its own size.
    - ``borders``: where patches and tiles meet; ``spacing``: the side of a patch in pixels, and of the crops.
    - ``seed``: of the crops' places, which are the same for all variants.
    """

    prompt: str
    picture: Readable
    base: NDArray[np.uint8]
    borders: Borders
    spacing: int
    seed: int

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        """The whole picture at the size of its base (h, w, 3)."""
        return shrunk(self.picture, Size(self.base.shape[1], self.base.shape[0]))

    @cached_property
    def crops(self) -> NDArray[np.uint8]:
        """Windows (CROPS, spacing, spacing, 3) at full size, at random places."""
        size, side = self.picture.size, self.spacing
        rng = np.random.default_rng((self.seed, size.width, size.height))
        tops, lefts = (rng.integers(0, length - side + 1, CROPS) for length in (size.height, size.width))
        windows = (Window(int(top), int(left), side, side) for top, left in zip(tops, lefts, strict=True))
        return np.stack([self.picture.read(window).permute(1, 2, 0).numpy() for window in windows])
