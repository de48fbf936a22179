"""Guidance as a denoiser that wraps other denoisers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pixelsmith.geometry import Window
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.guidances.cfg import plain
from pixelsmith.sampling.guidances.combination import Combination
from pixelsmith.sampling.schedule import Level


@dataclass(frozen=True)
class Away:
    """A worse denoiser to guide away from with ``scale`` and ``combination`` (``sampling.guidances``).

    ``is_on`` returns whether guidance is on at a share (0..1) of the denoising (arXiv 2404.07724).
    """

    denoiser: Denoiser
    scale: float
    is_on: Callable[[float], bool]
    combination: Combination = plain


@dataclass(frozen=True)
class Guided:
    """Guide the estimate with the prompt away from worse ones; several guidances add up.

    The worse estimates are those of the network with the negative prompt (classifier-free guidance) and of the
    perturbed network (``pixelsmith.config.recommended.Perturbation``). ``rescale`` in 0..1 rescales the standard
    deviation of the result to that of the positive estimate (arXiv 2305.08891, section 3.4, here on x̂0, so that it
    means the same for every prediction type).
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

    A network is trained on noised pictures, but at sampling time its inputs are its own results, of which each step
    removes slightly too much: their missing fine detail is not restored, and the picture ends up smooth. With a scale
    above 1 each step removes less.
    """

    denoiser: Denoiser
    scale: float

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        clean = self.denoiser(x, level, windows)
        # At α = 0 the input is pure noise, so it does not depend on the estimate.
        if level.alpha == 0:
            return clean
        return clean + (1 - 1 / self.scale) * (x - level.alpha * clean) / level.alpha
