"""What denoises patches, and guidance as a denoiser around denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
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


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Push the estimate away from the negative prompt: ``n + scale·(p − n)`` (arXiv 2207.12598).

    ``rescale`` in 0..1 brings the spread of the result back to that of the positive estimate (arXiv 2305.08891,
    section 3.4, here on x̂0, so that it means the same for every prediction type). ``is_on`` tells for the share of
    the denoising that is done whether to guide at all (arXiv 2404.07724).
    """

    positive: Denoiser
    negative: Denoiser
    scale: float
    rescale: float
    is_on: Callable[[float], bool]

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        positive = self.positive(x, level, windows)
        if not self.is_on(level.progress):
            return positive
        guided = torch.lerp(self.negative(x, level, windows), positive, self.scale)
        if self.rescale == 0:
            return guided
        spread = positive.std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return torch.lerp(guided, guided * spread, self.rescale)
