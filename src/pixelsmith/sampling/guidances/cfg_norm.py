"""Classifier-free guidance that keeps the norm of each token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.guidances.combination import Guidance, clean_of, velocity_of
from pixelsmith.sampling.schedule import Level


def norm_kept(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """Classifier-free guidance on velocities; each token of 2x2 latents keeps the norm of the estimate with the prompt.

    As in the pipeline of Qwen-Image.
    """
    v = velocity_of(positive, x, level)
    guided = torch.lerp(velocity_of(negative, x, level), v, scale)
    return clean_of(guided * (_lengths(v) / _lengths(guided)), x, level)


def _lengths(x: Batch) -> Tensor:
    """The root mean square of each token of 2x2 latents, for each of its latents; (b, 1, h, w)."""
    height, width = x.shape[2:]
    means = avg_pool2d(x.square().mean(1, keepdim=True), 2, ceil_mode=True)
    return interpolate(means.sqrt().clamp_min(1e-12), scale_factor=2)[..., :height, :width]


GUIDANCE = Guidance("cfg-norm", norm_kept, of_velocities=True)
