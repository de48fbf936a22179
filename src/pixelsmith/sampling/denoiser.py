"""The protocol of denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.schedule import Level

Batch = Float[Tensor, "b c h w"]


@runtime_checkable
class Denoiser(Protocol):
    """Estimates the clean latents of patches at a noise level, for one prompt."""

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        """``x``: patches (b, c, h, w), float32; ``windows``: where each lies on the canvas, in latents. Returns x̂0."""
        ...
