"""What denoises patches, and guidance as a denoiser around denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from pixelsmith.geometry import Window
from pixelsmith.sampling.schedule import Level

Batch = Float[Tensor, "b c h w"]


@runtime_checkable
class Denoiser(Protocol):
    """Estimates the clean latents of patches at a noise level, for one prompt."""

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        """``x``: patches (b, c, h, w), float32; ``windows``: where each lies on the canvas, in latents. Returns x̂0."""
        ...


@runtime_checkable
class Combination(Protocol):
    """Puts the estimates with the prompt and with the negative prompt together. Each patch for itself."""

    def __call__(self, positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
        """All (b, c, h, w): estimates of the clean latents, and the patches ``x`` that they are of. Returns x̂0."""
        ...


def plain(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """``n + scale·(p − n)`` (arXiv 2207.12598)."""
    return torch.lerp(negative, positive, scale)


def norm_kept(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """The same on velocities, each token of 2x2 latents brought back to the length that it has with the prompt.

    As the pipeline of Qwen-Image guides.
    """
    v = _velocity(positive, x, level)
    guided = torch.lerp(_velocity(negative, x, level), v, scale)
    return _clean(guided * (_lengths(v) / _lengths(guided)), x, level)


def row_norm_kept(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """The same for each row of a channel in the place of each token. As the pipeline of Lumina Image 2 guides."""
    v = _velocity(positive, x, level)
    guided = torch.lerp(_velocity(negative, x, level), v, scale)
    lengths = v.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return _clean(guided * lengths, x, level)


def zero_star(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """CFG-Zero*: the velocity without the prompt is first scaled to fit the one with it; pure noise does not move.

    arXiv 2503.18886, equations 8 and 9. No solver extrapolates from an estimate of pure noise, so no later step is led
    astray by what rested.
    """
    if level.alpha == 0:
        return _clean(torch.zeros_like(x), x, level)
    v, without = _velocity(positive, x, level), _velocity(negative, x, level)
    fit = _dot(v, without) / _dot(without, without).clamp_min(1e-8)
    return _clean(torch.lerp(fit * without, v, scale), x, level)


APG_LENGTH = 15.0
"""The longest difference that adaptive projected guidance lets through, as in the paper for SDXL (table 12)."""


def projected(positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
    """Adaptive projected guidance: of the difference only what is orthogonal to the estimate, and not too much of it.

    arXiv 2410.02416, algorithm 1, with η = 0 and without momentum, which would need one more canvas.
    """
    difference = positive - negative
    difference = difference * (APG_LENGTH / _dot(difference, difference).sqrt().clamp_min(1e-12)).clamp_max(1)
    along = _dot(difference, positive) / _dot(positive, positive).clamp_min(1e-12) * positive
    return positive + (scale - 1) * (difference - along)


GUIDANCES: dict[str, Combination] = {
    "cfg": plain,
    "cfg-norm": norm_kept,
    "cfg-norm-rows": row_norm_kept,
    "cfg-zero": zero_star,
    "apg": projected,
}
OF_VELOCITIES = ("cfg-norm", "cfg-norm-rows", "cfg-zero")
"""Those that mean something for flow matching only."""


def _velocity(clean: Batch, x: Batch, level: Level) -> Batch:
    """``ε − x̂0``, the direction of flow matching."""
    return (x - level.alpha * clean) / level.sigma - clean


def _clean(velocity: Batch, x: Batch, level: Level) -> Batch:
    return (x - level.sigma * velocity) / (level.alpha + level.sigma)


def _dot(a: Batch, b: Batch) -> Tensor:
    return (a * b).sum((1, 2, 3), keepdim=True)


def _lengths(x: Batch) -> Tensor:
    """The root mean square of each token of 2x2 latents, for each of its latents; (b, 1, h, w)."""
    height, width = x.shape[2:]
    means = avg_pool2d(x.square().mean(1, keepdim=True), 2, ceil_mode=True)
    return interpolate(means.sqrt().clamp_min(1e-12), scale_factor=2)[..., :height, :width]


@dataclass(frozen=True)
class Away:
    """A worse denoiser to be pushed away from by ``scale``, as ``combination`` does (``GUIDANCES``).

    ``is_on`` tells for the share of the denoising that is done whether to do so at all (arXiv 2404.07724).
    """

    denoiser: Denoiser
    scale: float
    is_on: Callable[[float], bool]
    combination: Combination = plain


@dataclass(frozen=True)
class Guided:
    """Push the estimate with the prompt away from worse ones; where there are several, the pushes add up.

    Worse are the network with the negative prompt (classifier-free guidance) and the network perturbed
    (``pixelsmith.config.recommended.Perturbation``). ``rescale`` in 0..1 brings the spread of the result back to that
    of the positive estimate (arXiv 2305.08891, section 3.4, here on x̂0, so that it means the same for every prediction
    type).
    """

    positive: Denoiser
    aways: Sequence[Away]
    rescale: float = 0.0

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        positive = self.positive(x, level, windows)
        pushed = [
            away.combination(positive, away.denoiser(x, level, windows), away.scale, x, level)
            for away in self.aways
            if away.is_on(level.progress)
        ]
        if not pushed:
            return positive
        guided = pushed[0] + sum(other - positive for other in pushed[1:])
        if self.rescale == 0:
            return guided
        spread = positive.std((1, 2, 3), keepdim=True) / guided.std((1, 2, 3), keepdim=True).clamp_min(1e-12)
        return torch.lerp(guided, guided * spread, self.rescale)


@dataclass(frozen=True)
class EpsilonScaled:
    """The denoiser with its estimate of the noise divided by ``scale`` (epsilon scaling, arXiv 2308.15321).

    A network that was trained on noised pictures meets its own at sampling time, from which each step took a little
    too much: what is missing of their fine parts it does not add, and the picture ends smooth. Above 1 each
    step takes less.
    """

    denoiser: Denoiser
    scale: float

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        clean = self.denoiser(x, level, windows)
        # From pure noise there is no telling what of it is the picture.
        if level.alpha == 0:
            return clean
        return clean + (1 - 1 / self.scale) * (x - level.alpha * clean) / level.alpha
