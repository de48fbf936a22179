"""Batches that the device has no memory for are halved, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from pixelsmith.geometry import Window
from pixelsmith.sampling.device import is_out_of_memory, room_for
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.schedule import Level


class Splitting:
    """A denoiser that gives patches to another one in parts that the device has memory for.

    ``on_split`` hears the size of the parts each time it is halved. ``full`` is a batch size that smaller parts are
    filled up to with copies, for a network that is compiled for one size; ``None`` leaves them as they are. One patch
    alone that does not fit raises ``DeviceError``.
    """

    def __init__(self, denoiser: Denoiser, on_split: Callable[[int], None], full: int | None = None) -> None:
        self._denoiser, self._on_split, self._full = denoiser, on_split, full
        self._most: int | None = None

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        while True:
            most = self._most or self._full or len(x)
            try:
                with room_for("one patch") if most == 1 else nullcontext():
                    parts = [slice(i, i + most) for i in range(0, len(x), most)]
                    return torch.cat([self._part(x[part], level, windows[part], most) for part in parts])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside of the handler, which keeps what was computed alive.
            self._most = most // 2
            self._on_split(self._most)

    def _part(self, x: Batch, level: Level, windows: Sequence[Window], most: int) -> Batch:
        missing = most - len(x) if self._full else 0
        filled = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
        return self._denoiser(filled, level, [*windows, *[windows[-1]] * missing])[: len(x)]
