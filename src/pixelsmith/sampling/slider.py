"""The Slider, and the guide's weight at each step.

In the paper the Slider is the share of the denoising steps that are guided (section 3.2 and table 1). With held
structure it sets which frequencies are held.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable


@runtime_checkable
class Leading(Protocol):
    """The settings of a stage from which the guide's weights follow."""

    @property
    def steps(self) -> int: ...
    @property
    def schedule_steps(self) -> int: ...
    @property
    def slider(self) -> float: ...
    @property
    def slider_fade(self) -> float: ...
    @property
    def slider_steps(self) -> float: ...
    @property
    def holds(self) -> bool: ...
    @property
    def paints(self) -> bool: ...


def guide_weights(steps: int, slider: float, fade: float = 0.0) -> tuple[float, ...]:
    """The guide's weight at each step, 1 (the paper's guided step) to 0 (prompt only).

    ``slider`` in 0..1 is the share of guided steps; the paper's position 30 of 50 is 0.6. ``fade`` in 0..1 is the
    share of the steps over which the weight falls from 1 to 0 along a cosine, centred on the slider; 0 is the paper's
    hard cut. A slider of 0 or 1 means no step or every step, whatever the fade.
    """
    if fade == 0 or slider in (0, 1):
        return tuple(1.0 if i < round(slider * steps) else 0.0 for i in range(steps))
    return tuple(_falling(((i + 0.5) / steps - slider) / fade + 0.5) for i in range(steps))


def guided_share(method: Leading) -> tuple[float, ...]:
    """The weights of the paper: the Slider is the share of the steps that are guided."""
    return guide_weights(method.steps, method.slider, method.slider_fade)


def held_share(method: Leading) -> tuple[float, ...]:
    """The weights if the Slider is a frequency: structure is held in the first ``slider_steps`` of the noise schedule.

    Of the whole schedule, because the noise level decides what is still open, wherever a stage starts. A larger Slider
    keeps more, and for longer; a painted map says what is kept, so it is held to the end.
    """
    # A stage that starts later than that holds it in its first step.
    begun = (method.schedule_steps - method.steps + 1) / method.schedule_steps
    share = 1.0 if method.paints else max(method.slider_steps, method.slider, begun)
    weights = guide_weights(method.schedule_steps, share if method.holds else 0.0, method.slider_fade)
    return weights[-method.steps :]


def cosine_weights(steps: int, power: float) -> tuple[float, ...]:
    """Weights that fall from 1 at the first step along half a cosine to a power (DemoFusion, arXiv 2311.16973, 3.3)."""
    return tuple(cosine_weight(i / steps) ** power for i in range(steps))


def cosine_weight(progress: float) -> float:
    """``(1 + cos(π·progress)) / 2``, from 1 at the first step to 0 at the last one."""
    return _falling(progress)


def _falling(position: float) -> float:
    """1 before position 0, 0 after 1, half a cosine between."""
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, max(0.0, position)))
