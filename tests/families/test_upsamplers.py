"""The memory of super-resolution networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelsmith.families.upsamplers import pixel_values


class Unusual(nn.Module):
    """A network that needs the values of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.max() > 1:
            raise ValueError("expected pixels in 0..1")
        return torch.pixel_shuffle(self.layer(pixels), 2)


def test_memory_is_estimated_from_the_values_that_are_alive_at_once() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 12, 3, padding=1), nn.PixelShuffle(2)
    )
    # The input, and both sides of the activation; half as much again for the kernels.
    assert pixel_values(network, 2) == (3 + 64 + 64) * 3 / 2 + 0.5


def test_memory_of_networks_that_need_real_data_to_run_is_estimated() -> None:
    assert pixel_values(Unusual(), 2) == 4 * 2**2 * 12
