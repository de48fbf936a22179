"""What a model is best run with, and what a rung of the cascade is run with in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelsmith.checks import check_choices, check_range, check_whole

GuidanceName = Literal["cfg", "cfg-norm", "cfg-norm-rows", "cfg-zero", "apg"]


@dataclass(frozen=True)
class Recommended:
    """What a model is best run with, for what a ``Method`` leaves open.

    ``guidance_told``: whether the network is told its guidance scale as an input (distilled models), in place of
    classifier-free guidance. A model folder may carry other choices in its ``pixelsmith.json``.

    Raises ``RequestError`` for a value out of range.
    """

    steps: int = 20
    guidance: GuidanceName = "cfg"
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    guidance_told: bool = False

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, least=1)
        check_choices(self, guidance=GuidanceName)
        check_range("guidance scale", self.guidance_scale, 0, 1000)
        check_range("guidance rescale", self.guidance_rescale, 0, 1)


@dataclass(frozen=True)
class StageMethod:
    """What one rung is denoised with: nothing is left open (``Method.at``)."""

    steps: int
    guidance: GuidanceName
    guidance_scale: float
    guidance_rescale: float
    guidance_told: bool
    guidance_interval: tuple[float, float]
    start: float
    slider: float
    slider_fade: float

    @property
    def schedule_steps(self) -> int:
        """Steps of the whole noise schedule of which ``steps`` are taken, the last ones."""
        return max(self.steps, round(self.steps / self.start))

    @property
    def guides(self) -> bool:
        """Whether classifier-free guidance is on at any of the steps."""
        return any(self.guides_at(step / self.steps) for step in range(self.steps))

    def guides_at(self, progress: float) -> bool:
        """Whether classifier-free guidance is on at this share (0..1) of the denoising."""
        start, end = self.guidance_interval
        return self.guidance_scale > 1 and not self.guidance_told and start <= progress < end
