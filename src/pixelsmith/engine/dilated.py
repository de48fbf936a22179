"""Dilated sampling: each sample is every s-th latent of the whole canvas (DemoFusion, arXiv 2311.16973, 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from pixelsmith.engine.executor import PATCH, Executor, Serial, Work
from pixelsmith.geometry import Window
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.schedule import Level
from pixelsmith.sampling.slider import cosine_weight

WIDEST, NARROWEST = 1.0, 0.01
"""σ₁ and σ₂ of the blur, in latents; DemoFusion's α₂ and α₃, the powers of its shares, are 1."""


def blurred(x: Batch, sigma: float, radius: int) -> Batch:
    """Gaussian blur of ``sigma`` latents, truncated at ``radius``, with edges repeated."""
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
    """The clean estimate of a whole canvas from its s·s dilated samples; the canvas is kept in memory.

    ``factor``: s, at least 1; ``multiple``: the multiple that the sides of a sample must have for the network.
    """

    denoiser: Denoiser
    factor: int
    multiple: int

    def estimate(
        self,
        x: Float[Tensor, "c h w"],
        level: Level,
        batch_size: int,
        executor: Executor | None = None,
        full: int | None = None,
    ) -> Float[Tensor, "c h w"]:
        """x̂0 of a canvas. The noise is estimated on a blurred canvas, with decreasing blur, so that samples agree.

        ``full``: as in ``Work``, of the samples.
        """
        height, width = x.shape[-2:]
        sides = [-side % (self.factor * self.multiple) for side in (width, height)]
        padded = F.pad(x[None], (0, sides[0], 0, sides[1]), mode="replicate")
        blurry = self._blurred(padded, level)
        # Each sample shows the whole canvas, so it has the canvas's window for networks conditioned on positions.
        clean = self._clean(blurry, level, Window(0, 0, height, width), batch_size, executor or Serial(), full)
        if level.alpha > 0:
            # x̂0 = (x − σ·ε̂) / α with the ε̂ of the blurred canvas, which restores the detail removed by the blur.
            clean = clean + (padded - blurry) / level.alpha
        return clean[0, :, :height, :width]

    def _blurred(self, x: Batch, level: Level) -> Batch:
        """The blurred canvas with the original mean and standard deviation, which the network expects of noise."""
        sigma = NARROWEST + cosine_weight(level.progress) * (WIDEST - NARROWEST)
        blurry = blurred(x, sigma, self.factor - 1)
        return (blurry - blurry.mean()) / blurry.std().clamp_min(1e-8) * x.std() + x.mean()

    def _clean(
        self, blurry: Batch, level: Level, window: Window, batch_size: int, executor: Executor, full: int | None
    ) -> Batch:
        """x̂0 of the blurred canvas, sample by sample."""
        height, width = blurry.shape[-2:]
        # For each channel, the s·s samples are consecutive.
        samples = (
            F.pixel_unshuffle(blurry, self.factor)
            .reshape(blurry.shape[1], -1, height // self.factor, width // self.factor)
            .transpose(0, 1)
        )
        estimates = list[Tensor]()
        work = Work(
            kind=PATCH,
            groups=[range(i, min(i + batch_size, len(samples))) for i in range(0, len(samples), batch_size)],
            read=lambda indices: samples[list(indices)],
            compute=partial(_estimates, self.denoiser, level, window),
            write=lambda group, values: estimates.append(values),
            place=lambda group: f"dilated samples {group[0] + 1} to {group[-1] + 1} of {len(samples)}",
            full=full,
        )
        executor.run(work, lambda group: None)
        whole = torch.cat(estimates).to(blurry.device)
        return F.pixel_shuffle(whole.transpose(0, 1).flatten(0, 1)[None], self.factor)


@dataclass(frozen=True)
class Joined:
    """A denoiser of patches mixed with the estimate of the whole canvas (c, h, w), whose share falls from 1 to 0.

    DemoFusion mixes the results of both paths' steps; a step is linear in x̂0, so mixing x̂0 is equivalent.
    """

    patches: Denoiser
    whole: Tensor

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        own = self.patches(x, level, windows)
        shared = torch.stack([self.whole[(..., *window.slices)] for window in windows])
        return torch.lerp(own, shared.to(own.device), cosine_weight(level.progress))


def _estimates(denoiser: Denoiser, level: Level, window: Window, samples: Batch) -> Batch:
    return denoiser(samples, level, [window] * len(samples))
