"""Strategies: ways from a model's own size to a larger picture, all of them on the one engine, to be compared or used.

- ``pixelsmith``: the method of this package (arXiv 2406.07251).
- ``multidiffusion``: patch-wise image-to-image without a guide (after arXiv 2302.08113): a stage starts from the noised
  picture below, and the patches, which overlap by half, are averaged. How much is kept is ``Method.start``'s matter.
- ``demofusion``: DemoFusion (arXiv 2311.16973): every multiple of the base in turn, skip residual, dilated sampling.
- ``direct``: the model is run at the size of the picture, as if it had been trained for it.
- ``lanczos``: the base picture, enlarged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pixelsmith.request import FusionName, Method, StrategyName
from pixelsmith.sampling.slider import cosine_weights, guide_weights

SKIP_RESIDUAL_POWER = 3.0
"""α₁ of DemoFusion."""


def _slider(method: Method, steps: int) -> tuple[float, ...]:
    return guide_weights(steps, method.slider, method.slider_fade)


def _never(method: Method, steps: int) -> tuple[float, ...]:
    return (0.0,) * steps


def _skip_residual(method: Method, steps: int) -> tuple[float, ...]:
    return cosine_weights(steps, SKIP_RESIDUAL_POWER)


@dataclass(frozen=True)
class Strategy:
    """What the plan and a stage need to know of a strategy.

    - ``growth``: the stages of a cascade that the user leaves open: ``factors`` (few and equal), ``multiples`` (2, 3, 4
      ... times the base) or ``none``: there are no stages.
    - ``native_base``: whether the base has the model's own size, or that of the picture.
    - ``lead``: the guide's weight at each of the steps, of which there are as many as the second argument says;
      ``fusion``: what it gives to a patch, ``None`` for what the method says; with one of its own there is no chess
      mask.
    - ``half_overlap``: patches overlap by half and are averaged there, in place of the method's border and coverage.
    - ``dilated``: dilated sampling joins the patches (``pixelsmith.sampling.dilated``).
    """

    growth: Literal["factors", "multiples", "none"] = "factors"
    native_base: bool = True
    lead: Callable[[Method, int], tuple[float, ...]] = _slider
    fusion: FusionName | None = None
    half_overlap: bool = False
    dilated: bool = False


STRATEGIES: dict[StrategyName, Strategy] = {
    "pixelsmith": Strategy(),
    "multidiffusion": Strategy(lead=_never, fusion="none", half_overlap=True),
    "demofusion": Strategy(growth="multiples", lead=_skip_residual, fusion="residual", half_overlap=True, dilated=True),
    "direct": Strategy(growth="none", native_base=False),
    "lanczos": Strategy(growth="none"),
}
