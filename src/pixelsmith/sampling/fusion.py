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
"""Phasors whose mean is shorter than this count as opposite: float32 cannot tell its direction."""


def fuse(
    x: Float[Tensor, "*batch h w"], guide: Float[Tensor, "*batch h w"], fusion: Fusion, weight: float = 1.0
) -> Float[Tensor, "*batch h w"]:
    """Fuse a patch of the canvas with the guide at the same place and level.

    ``weight`` in 0..1 scales the guide's part: 1 is the paper, 0 leaves the canvas as it is. Computed in float32,
    returned in the dtype of ``x``. A frequency without a phase of its own (modulus 0) takes the other side's;
    opposite phases, whose mean is undefined, leave the canvas's.
    """
    if weight == 0 or fusion == FUSIONS["none"]:
        return x
    canvas_f, guide_f = torch.fft.rfft2(x.float()), torch.fft.rfft2(guide.float())
    amplitude = _mixed(canvas_f.abs(), guide_f.abs(), fusion.amplitude, weight)
    canvas_u, guide_u = _unit(canvas_f), _unit(guide_f)
    mean = _mixed(canvas_u, guide_u, fusion.phase, weight)
    # Phasors that cancel leave rounding errors, whose direction means nothing.
    direction = torch.where(mean.abs() < OPPOSITE, canvas_u, _unit(mean))
    fused: Tensor = torch.fft.irfft2(amplitude * direction, s=x.shape[-2:])
    return fused.to(x.dtype)


def _mixed(canvas: Tensor, guide: Tensor, source: Side, weight: float) -> Tensor:
    """The guide's share is 0, 1 or a half, times the weight. For unit phasors this is the sum, up to its length."""
    share = {"canvas": 0.0, "guide": 1.0, "mean": 0.5}[source] * weight
    return (1 - share) * canvas + share * guide


def _unit(values: Complex[Tensor, "*batch h w"]) -> Complex[Tensor, "*batch h w"]:
    """The direction of each number; 0 where the modulus is 0 (``torch.sgn`` defines it so)."""
    return torch.sgn(values)
