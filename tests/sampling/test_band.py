"""Fitted frequency bands, compared with bands that are computed without a fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pixelsmith.families.live_tensors import LiveTensors
from pixelsmith.sampling.merging.band import Filter, fit_kernel


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    margin = kernel.shape[-1] // 2
    return F.conv2d(F.pad(x[None], (margin,) * 4, mode="replicate"), kernel)[0]


@pytest.mark.parametrize("side", [3, 5])
def test_the_fit_recovers_a_linear_filter(side: int) -> None:
    """The filter that made the second latents of each pair is fitted, whatever constant was added to them."""
    kernel = 0.2 * noise(3, 3, side, side)
    kernel[..., side // 2, side // 2] += torch.eye(3) - kernel.sum((2, 3))
    pairs = [(noise(3, 40, 40, seed=i), 5 + filtered(noise(3, 40, 40, seed=i), kernel)) for i in range(3)]
    torch.testing.assert_close(fit_kernel(pairs, side), kernel, atol=5e-3, rtol=0)


def test_the_fit_equals_least_squares() -> None:
    """With a small ridge term, compared with an independent solver on the same rows."""
    x, wanted = noise(2, 24, 24), noise(2, 24, 24, seed=1)
    rows = F.unfold(x[None], 3)[0].T
    rows = rows - rows.mean(0)
    target = wanted[:, 1:-1, 1:-1].flatten(1).T
    weights = torch.linalg.lstsq(rows, target - target.mean(0)).solution.T.reshape(2, 2, 3, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pixelsmith.sampling.merging.band.RIDGE", 1e-12)
        torch.testing.assert_close(fit_kernel([(x, wanted)], 3), weights, atol=1e-4, rtol=0)


def test_the_memory_of_a_fit_does_not_grow_with_the_number_of_pictures() -> None:
    def peak(pictures: int) -> int:
        pairs = ((noise(2, 12, 12, seed=i), noise(2, 12, 12, seed=-i)) for i in range(1, 1 + pictures))
        with LiveTensors([]) as alive:
            fit_kernel(pairs, 3)
        found: int = alive.peak
        return found

    assert peak(20) == peak(2)


def test_a_filter_is_local_and_independent_for_each_patch() -> None:
    band = Filter(fit_kernel([(noise(2, 24, 24), noise(2, 24, 24, seed=1))]))
    x = noise(2, 2, 16, 16)
    torch.testing.assert_close(band(x)[1:], band(x[1:]))
    torch.testing.assert_close(band(x)[..., 2:12, 2:12], band(x[..., :14, :14])[..., 2:12, 2:12])
