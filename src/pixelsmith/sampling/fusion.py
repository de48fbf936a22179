"""Phase fusion: structure (phase) from canvas and guide, texture (amplitude) from the canvas (paper, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Side = Literal["canvas", "guide", "mean"]


@dataclass(frozen=True)
class Fusion:
    """Where a fused patch takes its amplitude and its phase from (paper, table 1)."""

    amplitude: Side
    phase: Side


FUSIONS = {
    "phase": Fusion("canvas", "mean"),
    "phase-guide": Fusion("canvas", "guide"),
    "amplitude": Fusion("mean", "canvas"),
    "amplitude-guide": Fusion("guide", "canvas"),
    "both": Fusion("mean", "mean"),
    "guide": Fusion("guide", "guide"),
    "none": Fusion("canvas", "canvas"),
}
"""The variants of the paper's ablation by name; ``phase`` is the method itself."""

OPPOSITE = 1e-6
"""Phasors whose mean is shorter than this count as opposite, because its direction is lost in float32 rounding."""


def fuse(
    x: Float[Tensor, "*batch h w"], guide: Float[Tensor, "*batch h w"], fusion: Fusion, weight: float = 1.0
) -> Float[Tensor, "*batch h w"]:
    """Fuse a patch of the canvas with the guide at the same position and noise level.

    ``weight`` in 0..1 scales the guide's share: 1 is the paper's, 0 leaves the canvas unchanged. The result is computed
    in float32 and returned in the dtype of ``x``. A frequency whose modulus is 0 on one side takes the phase of the
    other; if the phases are opposite, their mean is undefined and the canvas's is kept.
    """
    if weight == 0 or fusion == FUSIONS["none"]:
        return x
    canvas_f, guide_f = torch.fft.rfft2(x.float()), torch.fft.rfft2(guide.float())
    amplitude = _mixed(canvas_f.abs(), guide_f.abs(), fusion.amplitude, weight)
    canvas_u, guide_u = _unit(canvas_f), _unit(guide_f)
    mean = _mixed(canvas_u, guide_u, fusion.phase, weight)
    # The sum of opposite phasors is a rounding error with an arbitrary direction.
    direction = torch.where(mean.abs() < OPPOSITE, canvas_u, _unit(mean))
    fused: Tensor = torch.fft.irfft2(amplitude * direction, s=x.shape[-2:])
    return fused.to(x.dtype)


def _mixed(canvas: Tensor, guide: Tensor, source: Side, weight: float) -> Tensor:
    """The weighted mean of both sides; the guide's share is 0, 1 or a half, times the weight."""
    share = {"canvas": 0.0, "guide": 1.0, "mean": 0.5}[source] * weight
    return (1 - share) * canvas + share * guide


def _unit(values: Complex[Tensor, "*batch h w"]) -> Complex[Tensor, "*batch h w"]:
    """The direction of each number; 0 where the modulus is 0 (``torch.sgn`` defines it so)."""
    return torch.sgn(values)
