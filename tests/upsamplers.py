"""Upsamplers of a few weights, and files with such weights."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.families import Upsampler


@dataclass
class Nearest:
    """Repeats each pixel."""

    scale: int

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.repeat_interleave(self.scale, 1).repeat_interleave(self.scale, 2)


@dataclass
class Convolved:
    """A convolution with random weights, which sees two pixels on each side; zeros beyond the edges."""

    scale: int
    calls: int = field(default=0)

    def __call__(self, pixels: Tensor) -> Tensor:
        self.calls += 1
        weights = torch.rand(3 * self.scale**2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) / 75
        found = F.pixel_shuffle(F.conv2d(pixels.float()[None], weights, padding=2), self.scale)[0]
        return found.round().clamp(0, 255).to(torch.uint8)


@dataclass
class Cramped:
    """An upsampler on a device that has memory for pictures of at most ``most`` pixels a side."""

    upsampler: Upsampler
    most: int

    @property
    def scale(self) -> int:
        return self.upsampler.scale

    def __call__(self, pixels: Tensor) -> Tensor:
        if max(pixels.shape[1:]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.upsampler(pixels)


def compact(scale: int = 2, seed: int | None = 0, channels: int = 3, features: int = 8) -> dict[str, Tensor]:
    """The tensors of a Real-ESRGAN Compact network: random ones, or, without a seed, those that repeat each pixel.

    Its last layer is added to the repeated pixels.
    """
    generator = torch.Generator().manual_seed(seed or 0)
    last = channels * scale**2
    shapes = {
        "body.0.weight": (features, channels, 3, 3), "body.0.bias": (features,), "body.1.weight": (features,),
        "body.2.weight": (features, features, 3, 3), "body.2.bias": (features,), "body.3.weight": (features,),
        "body.4.weight": (last, features, 3, 3), "body.4.bias": (last,),
    }  # fmt: skip
    found = {name: 0.2 * torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    if seed is None:
        found |= {name: torch.zeros_like(value) for name, value in found.items() if name.startswith("body.4")}
    return found
