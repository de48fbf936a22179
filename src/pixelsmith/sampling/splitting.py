"""Batches that the device has no memory for are halved, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pixelsmith.geometry import Window
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.schedule import Level


class Splitting:
    """A denoiser that gives patches to another one in parts that the device has memory for.

    ``on_split`` hears the size of the parts each time it is halved. One patch alone that does not fit raises
    ``torch.OutOfMemoryError``.
    """

    def __init__(self, denoiser: Denoiser, on_split: Callable[[int], None]) -> None:
        self._denoiser, self._on_split = denoiser, on_split
        self._most: int | None = None

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        while True:
            most = self._most or len(x)
            try:
                parts = [slice(i, i + most) for i in range(0, len(x), most)]
                return torch.cat([self._denoiser(x[part], level, windows[part]) for part in parts])
            except torch.OutOfMemoryError:
                if most == 1:
                    raise
            # Outside of the handler, which keeps what was computed alive.
            self._most = most // 2
            self._on_split(self._most)
