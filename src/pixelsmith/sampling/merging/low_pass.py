"""Low-pass filters of patches, mirrored at their edges."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.sampling.denoiser import Batch

ORDER = 4
"""The exponent of the low-pass. With 2, a Gaussian, guide and estimate would be mixed over two octaves, in which the
mixture has less power than either."""


def low_pass(x: Batch, limit: float, order: int = ORDER) -> Batch:
    """``x`` (b, c, h, w) without its high frequencies; float32.

    ``exp(−½·(ν/limit)^order)`` along rows and columns, with ν and ``limit`` in cycles per latent. The patch is mirrored
    at its edges, so its mean does not change.
    """
    height, width = x.shape[-2:]
    rows, columns = (_low_pass_matrix(side, limit, order, x.device) for side in (height, width))
    return rows @ x.float() @ columns.T


@lru_cache(maxsize=256)
def _low_pass_matrix(side: int, limit: float, order: int, device: torch.device) -> Float[Tensor, "n n"]:
    """The filter along one axis as a product of cosine transforms, which mirror the edges."""
    places, waves = torch.arange(side, dtype=torch.float64), torch.arange(side, dtype=torch.float64)
    cosines = torch.cos(math.pi / side * (places[:, None] + 0.5) * waves) * math.sqrt(2 / side)
    cosines[:, 0] *= math.sqrt(0.5)
    gain = torch.exp(-0.5 * (waves / (2 * side) / limit) ** order)
    return ((cosines * gain) @ cosines.T).float().to(device)
