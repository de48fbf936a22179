"""Sliced Wasserstein distance of small neighbourhoods, level by level of a Laplacian pyramid (arXiv 1710.10196, 5)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

NEIGHBOURHOOD = 7
"""The side of a neighbourhood in pixels."""
DIRECTIONS = 128
QUANTILES = (np.arange(256) + 0.5) / 256
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)


def laplacian_pyramid(pixels: Tensor, levels: int) -> list[Tensor]:
    """Pictures (n, 3, H, W) as bands of one octave each, finest first; the last one is the low-pass residual.

    Each level has half the size of the one before; their sum is the picture (Burt and Adelson, 1983).
    """
    bands = []
    for _ in range(levels - 1):
        smaller = _smooth(pixels)[..., ::2, ::2]
        bands.append(pixels - _enlarged(smaller, pixels.shape[-2:]))
        pixels = smaller
    return [*bands, pixels]


def _smooth(x: Tensor) -> Tensor:
    kernel = (torch.tensor(_BINOMIAL) / 16).expand(x.shape[1], 1, -1)
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    x = F.conv2d(x, kernel[..., None], groups=x.shape[1])
    return F.conv2d(x, kernel[..., None, :], groups=x.shape[1])


def _enlarged(x: Tensor, size: torch.Size) -> Tensor:
    spread = x.new_zeros(*x.shape[:-2], *size)
    spread[..., ::2, ::2] = 4 * x
    return _smooth(spread)


def neighbourhoods(band: Tensor, count: int, seed: int) -> NDArray[np.float32]:
    """Neighbourhoods (n·count, 3, 7, 7) at random positions in the pictures (n, 3, h, w) of one level."""
    rng = np.random.default_rng(seed)
    windows = band.unfold(2, NEIGHBOURHOOD, 1).unfold(3, NEIGHBOURHOOD, 1)
    picture = np.repeat(np.arange(len(band)), count)
    row, column = (rng.integers(windows.shape[axis], size=len(picture)) for axis in (2, 3))
    return np.asarray(windows.permute(0, 2, 3, 1, 4, 5)[picture, row, column].numpy())


def slices(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The quantiles (256, 128) of a set of neighbourhoods (n, 3, 7, 7) along random directions, the same for all sets.

    The set is normalised by its own mean and standard deviation in each colour channel, as in the source.
    """
    directions = np.random.default_rng(0).standard_normal((3 * NEIGHBOURHOOD**2, DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    mean, spread = x.mean((0, 2, 3), keepdims=True), x.std((0, 2, 3), keepdims=True)
    normalised = ((x - mean) / np.maximum(spread, 1e-8)).reshape(len(x), -1)
    return _at_quantiles(np.sort(normalised @ directions, axis=0))


def sliced_wasserstein(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean 1-D Wasserstein distance of two sets of neighbourhoods, given as their ``slices``.

    In units of the sets' standard deviations: 0 for equal sets; lower is better, without an upper bound.
    """
    return float(np.abs(a - b).mean())


def _at_quantiles(ordered: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same quantiles of each column, so that sets of different sizes are comparable."""
    places = QUANTILES * len(ordered) - 0.5
    low = np.clip(np.floor(places).astype(int), 0, len(ordered) - 1)
    high = np.minimum(low + 1, len(ordered) - 1)
    share = np.clip(places - low, 0, 1)[:, None].astype(np.float32)
    return np.asarray((1 - share) * ordered[low] + share * ordered[high])
