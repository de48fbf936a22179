"""Noise levels and the deterministic step (DDIM, arXiv 2010.02502, or Euler) as pure functions of two levels.

A level is a pair (α, σ): ``x = α·z + σ·ε``. Variance-preserving models have α² + σ² = 1, flow matching α = 1 − σ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

Latents = Float[Tensor, "*batch c h w"]


@dataclass(frozen=True)
class Level:
    """One noise level.

    ``alpha`` and ``sigma`` scale the clean latents and the noise; ``timestep`` is the network's input for it;
    ``progress`` is the share of the denoising that is done, from 0 (all noise) to 1 (clean).
    """

    alpha: float
    sigma: float
    timestep: float
    progress: float

    @property
    def log_snr(self) -> float:
        """λ = log(α/σ), infinite where one of them is 0."""
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf


CLEAN = Level(alpha=1.0, sigma=0.0, timestep=0.0, progress=1.0)


@dataclass(frozen=True)
class Schedule:
    """The n + 1 levels of n steps, from the noisiest to the (in some models nearly) clean one."""

    levels: tuple[Level, ...]

    @property
    def steps(self) -> int:
        return len(self.levels) - 1

    @property
    def is_flow(self) -> bool:
        """Whether α = 1 − σ at all levels."""
        return all(math.isclose(level.alpha + level.sigma, 1, abs_tol=1e-4) for level in self.levels)

    def last(self, steps: int) -> Schedule:
        """The last ``steps`` steps as another schedule, which begins at progress 0."""
        levels = self.levels[self.steps - steps :]
        return Schedule(tuple(replace(level, progress=i / steps) for i, level in enumerate(levels)))


def noised(z: Latents, noise: Latents, level: Level) -> Latents:
    """``α·z + σ·ε``: the guide (paper, section 3.2) or any other latents at a noise level."""
    return level.alpha * z + level.sigma * noise


def step(x_t: Latents, clean: Latents, t: Level, s: Level) -> Latents:
    """Move latents from level t to level s, given the estimate of the clean latents.

    ``x_s = α_s·x̂0 + (σ_s/σ_t)·(x_t − α_t·x̂0)``: DDIM (η = 0) for variance-preserving models, Euler for flow matching.
    """
    ratio = s.sigma / t.sigma
    return (s.alpha - ratio * t.alpha) * clean + ratio * x_t


def extrapolated(clean: Latents, previous: Latents, r: Level, t: Level, s: Level) -> Latents:
    """The clean estimate of DPM-Solver++(2M), from those at t and at the level r before it.

    ``D = x̂0_t + (x̂0_t − x̂0_r) · h_s / (2·h_t)`` with h the steps in log-SNR (arXiv 2211.01095, algorithm 2).
    ``step`` with D instead of x̂0 is the solver's update. If a step in log-SNR is infinite (from pure noise, or to the
    clean end), the first order is exact or safer, and ``clean`` is returned.
    """
    h_t, h_s = t.log_snr - r.log_snr, s.log_snr - t.log_snr
    if not (math.isfinite(h_t) and math.isfinite(h_s)):
        return clean
    return clean + (clean - previous) * (h_s / (2 * h_t))
