"""Strategies: methods to make a picture larger than a model's native size, all on the same engine, for comparisons.

- ``pixelsmith``: the method of this package: held structure, or with ``merge="phase"`` the paper's (arXiv 2406.07251).
- ``multidiffusion``: patch-wise image-to-image without a guide (after arXiv 2302.08113): a stage starts from the noised
  picture below, half as noisy as noise unless ``start`` is given, and the patches, which overlap by half, are
  averaged.
- ``demofusion``: DemoFusion (arXiv 2311.16973): every multiple of the base in turn, skip residual, dilated sampling.
- ``direct``: the model is run at the size of the picture, as if it had been trained for it.
- ``lanczos``: the base picture, enlarged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pixelsmith.config.recommended import StageMethod
from pixelsmith.sampling.merging import MERGES

StrategyName = Literal["pixelsmith", "multidiffusion", "demofusion", "direct", "lanczos"]

_OF_PATCHES = ("slider", "slider_fade", "slider_steps", "slider_map", "merge", "chess_mask", "border", "coverage")
_OF_STAGES = (*_OF_PATCHES, "start", "stage_steps", "stage_sampler", "stage_guidance_scale", "captions", "upsampling")


@dataclass(frozen=True)
class Strategy:
    """The properties of a strategy that planning and a stage need.

    - ``growth``: the default stages of a cascade: ``factors`` (few and equal), ``multiples`` (2, 3, 4
      ... times the base) or ``none``: there are no stages.
    - ``native_base``: whether the base has the model's own size, or that of the picture.
    - ``start``: the default share of the noise schedule that a stage goes through.
    - ``merge``: how the guide is merged into patches; ``None`` is the method's setting.
    - ``guided``: whether the guide is merged at all; if not, it only initialises the canvas.
    - ``half_overlap``: patches overlap by half and are averaged there, instead of the method's border and coverage.
    - ``dilated``: dilated sampling joins the patches (``pixelsmith.engine.dilated``).
    - ``unused``: the settings of a ``Method`` that it ignores.
    """

    growth: Literal["factors", "multiples", "none"] = "factors"
    native_base: bool = True
    start: float = 1.0
    merge: str | None = None
    guided: bool = True
    half_overlap: bool = False
    dilated: bool = False
    unused: tuple[str, ...] = ()

    def merge_of(self, method: StageMethod) -> str:
        """The way in which a stage merges its guide."""
        return self.merge or method.merge

    def weights(self, method: StageMethod) -> tuple[float, ...]:
        """How strongly the guide leads each step of a stage, 1 to 0."""
        return MERGES[self.merge_of(method)].weights(method) if self.guided else (0.0,) * method.steps


STRATEGIES: dict[StrategyName, Strategy] = {
    "pixelsmith": Strategy(),
    "multidiffusion": Strategy(start=0.5, merge="none", guided=False, half_overlap=True, unused=_OF_PATCHES),
    "demofusion": Strategy(
        growth="multiples",
        merge="residual",
        half_overlap=True,
        dilated=True,
        unused=_OF_PATCHES,
    ),
    "direct": Strategy(growth="none", native_base=False, unused=_OF_STAGES),
    "lanczos": Strategy(growth="none", unused=_OF_STAGES),
}
