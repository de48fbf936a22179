"""Strategies: ways from a model's own size to a larger picture, all of them on the one engine, to be compared or used.

- ``pixelsmith``: the method of this package (arXiv 2406.07251).
- ``multidiffusion``: patch-wise image-to-image without a guide (after arXiv 2302.08113): a stage starts from the noised
  picture below, half as noisy as noise if nothing is said of ``start``, and the patches, which overlap by half, are
  averaged.
- ``demofusion``: DemoFusion (arXiv 2311.16973): every multiple of the base in turn, skip residual, dilated sampling.
- ``direct``: the model is run at the size of the picture, as if it had been trained for it.
- ``lanczos``: the base picture, enlarged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pixelsmith.recommended import StageMethod
from pixelsmith.sampling.slider import cosine_weights, guide_weights

FusionName = Literal["phase", "phase-guide", "amplitude", "amplitude-guide", "both", "guide", "none", "residual"]
StrategyName = Literal["pixelsmith", "multidiffusion", "demofusion", "direct", "lanczos"]

SKIP_RESIDUAL_POWER = 3.0
"""α₁ of DemoFusion."""
_OF_PATCHES = ("slider", "slider_fade", "fusion", "chess_mask", "border", "coverage")
_OF_STAGES = (*_OF_PATCHES, "start", "stage_steps", "stage_guidance_scale", "upsampling")


def _slider(method: StageMethod) -> tuple[float, ...]:
    return guide_weights(method.steps, method.slider, method.slider_fade)


def _never(method: StageMethod) -> tuple[float, ...]:
    return (0.0,) * method.steps


def _skip_residual(method: StageMethod) -> tuple[float, ...]:
    return cosine_weights(method.steps, SKIP_RESIDUAL_POWER)


@dataclass(frozen=True)
class Strategy:
    """What the plan and a stage need to know of a strategy.

    - ``growth``: the stages of a cascade that the user leaves open: ``factors`` (few and equal), ``multiples`` (2, 3, 4
      ... times the base) or ``none``: there are no stages.
    - ``native_base``: whether the base has the model's own size, or that of the picture.
    - ``start``: the share of the noise schedule that a stage goes through where nothing is said of it.
    - ``lead``: the guide's weight at each of the steps; ``fusion``: what it gives to a patch, ``None`` for what the
      method says; with one of its own there is no chess mask.
    - ``half_overlap``: patches overlap by half and are averaged there, in place of the method's border and coverage.
    - ``dilated``: dilated sampling joins the patches (``pixelsmith.sampling.dilated``).
    - ``unused``: what of a ``Method`` it has no use for.
    """

    growth: Literal["factors", "multiples", "none"] = "factors"
    native_base: bool = True
    start: float = 1.0
    lead: Callable[[StageMethod], tuple[float, ...]] = _slider
    fusion: FusionName | None = None
    half_overlap: bool = False
    dilated: bool = False
    unused: tuple[str, ...] = ()


STRATEGIES: dict[StrategyName, Strategy] = {
    "pixelsmith": Strategy(),
    "multidiffusion": Strategy(start=0.5, lead=_never, fusion="none", half_overlap=True, unused=_OF_PATCHES),
    "demofusion": Strategy(
        growth="multiples",
        lead=_skip_residual,
        fusion="residual",
        half_overlap=True,
        dilated=True,
        unused=_OF_PATCHES,
    ),
    "direct": Strategy(growth="none", native_base=False, unused=_OF_STAGES),
    "lanczos": Strategy(growth="none", unused=_OF_STAGES),
}
