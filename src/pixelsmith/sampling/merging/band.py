"""The band that a smaller picture knows, as a linear map of latents.

What a picture still shows after it was shrunk by a factor F and enlarged again is a band of its frequencies (A⁺A of
DDNM, arXiv 2212.00490). Latents are not pixels: a texture finer than a latent is a value of theirs, so no low-pass of
latents has that band. But shrinking and enlarging is nearly linear in them: five by five weights for each pair of
channels explain 97 to 99 % of it (docs/decisions/0023-held-structure.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.merging.low_pass import low_pass

SIDE = 5
"""Of the kernel, in latents."""
RIDGE = 1e-3
"""Of the fit, as a share of the mean power of what it is fitted to."""
CONSTANTS = 10.0
"""What a constant counts in the fit, as a multiple of that mean power: tones are kept."""


@dataclass(frozen=True)
class Band:
    """What is left of latents (b, c, h, w), float32, in the band.

    - ``kernel``: fitted weights (c, c, k, k), or ``None``: shrinking by the latent scale and more is a low-pass.
    - ``limit``: up to where it passes, in cycles a latent; infinite for all.
    """

    kernel: Float[Tensor, "c c k k"] | None
    limit: float = math.inf

    def __call__(self, x: Batch) -> Batch:
        x = x.float()
        if self.kernel is not None:
            margin = self.kernel.shape[-1] // 2
            x = F.conv2d(F.pad(x, (margin,) * 4, mode="replicate"), self.kernel.to(x.device))
        return x if math.isinf(self.limit) else low_pass(x, self.limit)


def fit_kernel(
    pairs: Iterable[tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]], side: int = SIDE
) -> Float[Tensor, "c c k k"]:
    """The kernel that makes the second latents of each pair of the first ones, by ridge regression.

    Each pair counts by its departure from its own mean; a constant is kept as it is.
    """
    gram, moment = torch.zeros(()), torch.zeros(())
    for latents, band in pairs:
        margin = side // 2
        rows = F.unfold(latents[None].double(), side)[0].T
        wanted = band.double()[:, margin:-margin, margin:-margin].flatten(1).T
        rows, wanted = rows - rows.mean(0), wanted - wanted.mean(0)
        gram, moment = gram + rows.T @ rows, moment + rows.T @ wanted
    channels, power = moment.shape[1], gram.diagonal().mean()
    each = torch.eye(channels, dtype=torch.float64).repeat_interleave(side * side, dim=0)
    gram = gram + power * (CONSTANTS * each @ each.T + RIDGE * torch.eye(len(gram), dtype=torch.float64))
    weights: Tensor = torch.linalg.solve(gram, moment + power * CONSTANTS * each)
    return weights.T.reshape(channels, channels, side, side).float()
