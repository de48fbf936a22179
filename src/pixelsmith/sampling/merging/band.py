"""The band that a smaller picture knows, as a linear map of latents.

What a picture still shows after it was shrunk by a factor F and enlarged again is a band of its frequencies (A⁺A of
DDNM, arXiv 2212.00490). Latents are not pixels: a texture finer than a latent is a value of theirs, so no low-pass of
latents has that band. But shrinking and enlarging is nearly linear in them: five by five weights for each pair of
channels explain 97 to 99 % of it (docs/decisions/0023-held-structure.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.merging.low_pass import low_pass

SIDE = 5
"""Of the kernel, in latents."""
RIDGE = 1e-3
"""Of the fit, as a share of the mean power of what it is fitted to."""


@dataclass(frozen=True)
class Filter:
    """A linear filter of latents (b, c, h, w) that mixes their channels; what it makes is float32.

    - ``kernel``: weights (c, c, k, k), or ``None`` for none.
    - ``limit``: of the low-pass that follows, in cycles a latent; infinite for none.
    """

    kernel: Float[Tensor, "c c k k"] | None = None
    limit: float = math.inf

    def __call__(self, x: Batch) -> Batch:
        x = x.float()
        if self.kernel is not None:
            margin = self.kernel.shape[-1] // 2
            x = F.conv2d(F.pad(x, (margin,) * 4, mode="replicate"), self.kernel.to(x.device))
        return x if math.isinf(self.limit) else low_pass(x, self.limit)


@dataclass(frozen=True)
class Band:
    """The band of a smaller picture: ``of_clean`` finds it in latents, ``of_guide`` in those of an enlarged picture.

    They differ, for where shrinking only weakens a frequency the guide has been weakened before.
    """

    of_clean: Callable[[Batch], Batch]
    of_guide: Callable[[Batch], Batch]

    def correction(self, clean: Batch, guide: Batch) -> Batch:
        """What the clean estimate lacks of the guide's band: A⁺(y − A·x̂0) of DDNM."""
        return self.of_guide(guide) - self.of_clean(clean)


def fit_kernel(
    pairs: Iterable[tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]], side: int = SIDE
) -> Float[Tensor, "c c k k"]:
    """The kernel that makes the second latents of each pair of the first, up to a constant, by ridge regression."""
    margin, rows, wanted = side // 2, list[Tensor](), list[Tensor]()
    for latents, band in pairs:
        rows.append(F.unfold(latents[None].double(), side)[0].T)
        wanted.append(band.double()[:, margin:-margin, margin:-margin].flatten(1).T)
    x, y = torch.cat(rows), torch.cat(wanted)
    x, y = x - x.mean(0), y - y.mean(0)
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weights: Tensor = torch.linalg.solve(gram, x.T @ y)
    return weights.T.reshape(y.shape[1], -1, side, side).float()


Bands = Callable[[float], Band]
"""The band that is held at a Slider position above 0, at most 1."""
