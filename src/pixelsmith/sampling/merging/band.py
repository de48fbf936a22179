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
"""The side of the kernel in latents."""
RIDGE = 1e-3
"""The ridge of the regression, as a share of the mean power of the latents."""


@dataclass(frozen=True)
class Filter:
    """A linear filter of latents (b, c, h, w) that mixes their channels; the result is float32.

    - ``kernel``: weights (c, c, k, k), or ``None`` for none.
    - ``limit``: the limit of the low-pass that follows, in cycles per latent; infinite for none.
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
    """The frequency band of a smaller picture: two filters that extract it.

    ``of_clean`` extracts it from latents, ``of_guide`` from those of an upsampled picture. They differ because
    frequencies that are only attenuated by scaling down are attenuated in the guide already.
    """

    of_clean: Callable[[Batch], Batch]
    of_guide: Callable[[Batch], Batch]

    def correction(self, clean: Batch, guide: Batch) -> Batch:
        """The difference between the guide's band and that of the clean estimate: A⁺(y − A·x̂0) of DDNM."""
        return self.of_guide(guide) - self.of_clean(clean)


def fit_kernel(
    pairs: Iterable[tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]], side: int = SIDE
) -> Float[Tensor, "c c k k"]:
    """The kernel that best maps the first latents of each pair to the second, up to a constant, by ridge regression.

    Of the pairs only the sums of products are kept, f² values of 8 bytes for the f = c·k² features of a place: 82 MB
    for 128 channels, whose rows for all places would be more than 1 GB.
    """
    margin, moments = side // 2, torch.zeros((), dtype=torch.float64)
    for latents, band in pairs:
        x = F.unfold(latents[None].double(), side)[0]
        y = band.double()[:, margin:-margin, margin:-margin].flatten(1)
        # With a row of ones, the products contain the sums and the number of places, too.
        values = torch.cat([torch.ones_like(x[:1]), x, y])
        moments = torch.addmm(moments, values, values.T)
    sums = moments[0, 1:]
    centred = moments[1:, 1:] - torch.outer(sums, sums) / moments[0, 0]
    features = len(x)
    gram, products = centred[:features, :features], centred[:features, features:]
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weights: Tensor = torch.linalg.solve(gram, products)
    return weights.T.reshape(products.shape[1], -1, side, side).float()


Bands = Callable[[float], Band]
"""Returns the band that is held at a position of the Slider above 0 and at most 1."""
