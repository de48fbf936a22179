"""A finished picture for the metrics, with its base, its borders, and crops."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.canvas import Array
from pixelsmith.evaluate.seams import Borders
from pixelsmith.evaluate.structure import shrunk
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import Resized
from pixelsmith.sampling.readable import Readable

CROPS = 16
"""The number of crops of a picture for metrics of detail."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture of a variant.

    - ``picture``: (3, H, W) uint8; ``base``: (h, w, 3), the model's picture of prompt and seed at its native size.
    - ``borders``: of patches and tiles; ``spacing``: the side of a patch in pixels; ``stride``: the distance from one
      patch to the next.
    - ``prompt``, ``seed``: of the picture; they also key the random positions of crops.
    - ``reference``: the reference's picture of the same case, if it could be made.
    """

    prompt: str
    picture: Readable
    base: NDArray[np.uint8]
    borders: Borders
    spacing: int
    stride: Size
    seed: int
    reference: Readable | None = None

    @cached_property
    def small(self) -> NDArray[np.uint8]:
        """The whole picture at the size of its base (h, w, 3)."""
        return shrunk(self.picture, Size(self.base.shape[1], self.base.shape[0]))

    @property
    def factor(self) -> float:
        """The larger of both axes' scale factors from the base to the picture."""
        height, width = self.base.shape[:2]
        return float(max(self.picture.size.width / width, self.picture.size.height / height))

    @property
    def parts(self) -> tuple[int, int]:
        """The numbers of rows and columns of parts of about the size of a patch."""
        size = self.picture.size
        return max(1, round(size.height / self.spacing)), max(1, round(size.width / self.spacing))

    @property
    def enlarged(self) -> Readable:
        """The base at the size of the picture (Lanczos), without added detail."""
        pixels = Array(torch.from_numpy(self.base.copy()).permute(2, 0, 1))
        return Resized(pixels, pixels.size, self.picture.size, "lanczos")

    def crops(self, side: int) -> NDArray[np.uint8]:
        """Full-size crops (CROPS, side, side, 3) at random positions, which are the same for all variants."""
        size = self.picture.size
        rng = np.random.default_rng((zlib.crc32(self.prompt.encode()), self.seed, size.width, size.height))
        tops, lefts = (rng.integers(0, length - side + 1, CROPS) for length in (size.height, size.width))
        windows = (Window(int(top), int(left), side, side) for top, left in zip(tops, lefts, strict=True))
        return np.stack([self.picture.read(window).permute(1, 2, 0).numpy() for window in windows])
