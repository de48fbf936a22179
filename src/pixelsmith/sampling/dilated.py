"""Dilated sampling: each sample sees all of the canvas, every s-th latent of it (DemoFusion, arXiv 2311.16973, 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.guidance import Batch, Denoiser
from pixelsmith.sampling.schedule import Level
from pixelsmith.sampling.slider import cosine_weight

WIDEST, NARROWEST = 1.0, 0.01
"""σ₁ and σ₂ of the blur, in latents; DemoFusion's α₂ and α₃, the powers of its shares, are 1."""


def blurred(x: Batch, sigma: float, radius: int) -> Batch:
    """Gaussian blur of ``sigma`` latents, cut off at ``radius``, the edges continued."""
    if radius == 0:
        return x
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (radius,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[..., None], groups=x.shape[1])
    return F.conv2d(x, kernel[..., None, :], groups=x.shape[1])


@dataclass(frozen=True)
class Dilated:
    """The clean estimate of a whole canvas from its s·s dilated samples; the canvas is held in memory.

    ``factor``: s, at least 1; ``multiple``: what the network needs the sides of a sample to be a multiple of.
    """

    denoiser: Denoiser
    factor: int
    multiple: int

    def estimate(self, x: Float[Tensor, "c h w"], level: Level, batch_size: int) -> Float[Tensor, "c h w"]:
        """x̂0 of a canvas. The canvas is blurred before it is sampled, less and less, so that samples agree."""
        height, width = x.shape[-2:]
        sides = [-side % (self.factor * self.multiple) for side in (width, height)]
        padded = F.pad(x[None], (0, sides[0], 0, sides[1]), mode="replicate")
        sigma = NARROWEST + cosine_weight(level.progress) * (WIDEST - NARROWEST)
        blurry = blurred(padded, sigma, 2 * (self.factor - 1))
        # Channel by channel, the s·s samples come one after another.
        samples = (
            F.pixel_unshuffle(blurry, self.factor)
            .reshape(len(x), -1, padded.shape[-2] // self.factor, padded.shape[-1] // self.factor)
            .transpose(0, 1)
        )
        # Each sample shows the whole canvas, and that is what a network that asks for places is told.
        window = Window(0, 0, height, width)
        batches = (samples[i : i + batch_size] for i in range(0, len(samples), batch_size))
        estimates = [self.denoiser(batch, level, [window] * len(batch)) for batch in batches]
        whole = F.pixel_shuffle(torch.cat(estimates).transpose(0, 1).flatten(0, 1)[None], self.factor)
        return whole[0, :, :height, :width]


@dataclass(frozen=True)
class Joined:
    """A denoiser of patches joined by the estimate of the whole canvas (c, h, w): its share falls from 1 to 0.

    DemoFusion mixes what the two paths make of a step; the step is linear in x̂0, so mixing x̂0 is the same.
    """

    patches: Denoiser
    whole: Tensor

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        own = self.patches(x, level, windows)
        shared = torch.stack([self.whole[(..., *window.slices)] for window in windows])
        return torch.lerp(own, shared, cosine_weight(level.progress))
