"""How a picture is denoised, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.checks import (
    check_choices,
    check_flag,
    check_interval,
    check_shares,
    check_text,
)
from pixelsmith.config.recommended import (
    EPSILON_SCALINGS,
    SLIDER_MAPS,
    CaptionsName,
    Perturbation,
    Recommended,
    StageMethod,
    perturbation_of,
)
from pixelsmith.config.settings import Group, check_numbers, setting
from pixelsmith.config.strategies import STRATEGIES, StrategyName
from pixelsmith.errors import RequestError
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.merging import MERGES
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.system.places import picture_path

CoverageName = Literal["grid", "random"]
Upsampling = Literal["lanczos", "bicubic", "latent", "learned"]
KernelName = Literal["lanczos", "bicubic"]
_KERNEL_OF: dict[Upsampling, KernelName] = {
    "lanczos": "lanczos", "bicubic": "bicubic", "latent": "bicubic", "learned": "lanczos"
}  # fmt: skip

GIVEN_SLIDER = 1.0
"""The default Slider above a given picture with ``merge="hold"``: nothing that it shows is lost."""


@dataclass(frozen=True)
class Method:
    """How a picture is denoised. The defaults and their reasons are in docs/decisions/0004-defaults.md.

    Where ``steps``, ``sampler``, ``guidance``, ``guidance_scale``, ``guidance_rescale``, ``epsilon_scaling``, what
    stages have instead of these, ``texture``, ``captions``, ``slider`` and ``slider_steps`` are ``None``, the model's
    recommendation is used (``Recommended``), and the last two are 1 above a given picture; ``at`` returns the settings
    of one rung.

    - ``steps``: denoising steps of the base and of every stage, at least 1.
    - ``stage_steps``: ``steps`` of the stages.
    - ``start``: above 0, at most 1: the share of the noise schedule that a stage goes through. Below 1 it starts from
      the noised guide instead of pure noise, as image-to-image does, and needs fewer steps. ``None`` is the strategy's
      default, which is 1 unless it says otherwise.
    - ``sampler``: ``ddim`` (for flow models the same rule is Euler), ``dpmpp-2m`` (second order, for few steps),
      ``euler-a`` or ``lcm``, which add fresh noise at each step (``pixelsmith.sampling.samplers``).
    - ``stage_sampler``: ``sampler`` of the stages.
    - ``guidance``: how the estimates with and without the prompt are combined
      (``pixelsmith.sampling.guidances``): ``cfg`` is classifier-free guidance; ``cfg-norm`` and
      ``cfg-norm-rows`` keep the norm of the prediction; ``cfg-zero`` is CFG-Zero*, for flow matching; ``apg`` adaptive
      projected guidance.
    - ``guidance_scale``: classifier-free guidance; at 1 and below it is off. Models that take their guidance scale
      as an input (``Recommended.guidance_told``) get this number.
    - ``stage_guidance_scale``: ``guidance_scale`` of the stages.
    - ``guidance_rescale``: 0..1, how far the standard deviation of the guided estimate is rescaled to that of the
      unguided one.
    - ``epsilon_scaling``: 0.5..2, what the estimated noise is divided by: a little above 1 for more detail, 1 is off
      (``pixelsmith.sampling.guidance.EpsilonScaled``).
    - ``stage_epsilon_scaling``: ``epsilon_scaling`` of the stages.
    - ``texture``: 0..1, the strength of the texture that a model's texture network adds at the scale of pixels
      (``pixelsmith.families.textures``, docs/decisions/0027-drawn-texture.md); ignored for models without one.
    - ``guidance_interval``: the part of the denoising, as two shares in 0..1, in which guidance is on.
    - ``perturbation``: a perturbed network to guide away from, in the base and in the stages, at the cost of one more
      call per patch; also the name of one of ``PERTURBATIONS`` (docs/decisions/0017-perturbations.md).
    - ``slider``: 0..1, how faithful a stage is to the smaller picture that it enlarges: low invents detail, high
      keeps structure. One for all stages, or one for each of the last stages, in order; earlier stages use the first.
      Its meaning depends on ``merge``. With ``hold``, the structure is held that the smaller picture would still show
      at this share of its size: 1 is all of it, 0.25 what remains at a quarter of the size
      (docs/decisions/0023-held-structure.md). Otherwise (the paper) it is the share of guided steps.
    - ``slider_map``: where structure is held: ``auto`` (everywhere, with less new detail where the smaller picture is
      flat), ``even`` (everywhere alike), or the path of a grey picture of any size with the aspect ratio of the result,
      which replaces ``slider``: white is 1, black is 0.
    - ``slider_steps``: 0..1, the first share of the noise schedule, in whose steps structure is held. A larger
      ``slider`` holds it in that share, and a painted map in all steps (docs/decisions/0023-held-structure.md).
    - ``slider_fade``: 0..1, the share of steps over which the guide fades out; 0 is a hard cut.
    - ``merge``: how the smaller picture is merged into patches (``pixelsmith.sampling.merging``): ``hold`` the
      structure of the clean estimate, or ``phase`` fusion as in the paper, its ablations, DemoFusion's ``residual``.
    - ``chess_mask``: whether, in the paper's way, the guide replaces every other latent pixel after a guided step.
    - ``border``: width in latents over which neighbouring patches are averaged; 0 is off, ``None`` scales
      the paper's 10 latents for a patch of 128 to the model's patch.
    - ``coverage``: ``grid`` (shifted at every step) or ``random`` (as in the paper).
    - ``upsampling``: how the smaller picture becomes the guide: its pixels are enlarged by ``lanczos`` or ``bicubic``
      and encoded; or its latents are enlarged, by interpolation (``latent``) or by the model's network, which doubles
      them (``learned``, docs/decisions/0047-learned-latent-upsampler.md).
    - ``captions``: ``auto``: a caption of the smaller picture is prepended to the prompt of each patch
      (``Parts.captioner``, docs/decisions/0026-captions.md); ``off``: all patches have the same prompt.
    - ``strategy``: the method for larger pictures; others are there for comparison (``pixelsmith.config.strategies``).

    Raises ``RequestError`` for a value out of range.

    Examples:
        >>> Method(slider=(0.9, 0.6)).sliders
        (0.9, 0.6)
        >>> Method(slider=2)
        Traceback (most recent call last):
        ...
        pixelsmith.errors.RequestError: slider: expected a number from 0 to 1, got 2
    """

    steps: int | None = setting(None, "Denoising steps of the base and of each stage.", Group.QUALITY, least=1)
    sampler: str | None = setting(None, "The rule of a step.", Group.QUALITY, choices=SAMPLERS)
    guidance: str | None = setting(
        None, "How the estimates with and without the prompt are combined.", Group.GUIDANCE, choices=GUIDANCES
    )
    guidance_scale: float | None = setting(
        None, "Scale of classifier-free guidance; 1 is off.", Group.GUIDANCE, range=(0, 1000)
    )
    guidance_rescale: float | None = setting(None, "0..1: reduces over-saturation.", Group.GUIDANCE, range=(0, 1))
    epsilon_scaling: float | None = setting(
        None, "0.5..2: a little above 1 for more detail; 1 is off.", Group.DETAIL, range=EPSILON_SCALINGS
    )
    guidance_interval: tuple[float, float] = setting(
        (0.0, 1.0), "START,END in 0..1: where guidance is on.", Group.GUIDANCE
    )
    perturbation: Perturbation | None = None
    slider: float | tuple[float, ...] | None = setting(
        None,
        "0..1: 0 keeps nothing of the smaller picture, 1 everything it shows. A,B: one for each of the last stages.  "
        "[default: 1 with --from-image, else as the model recommends]",
        Group.DETAIL,
        common=True,
    )
    slider_map: str = setting(
        "auto",
        "Where structure is held: auto, even, or a grey picture (white is 1, black 0).  [default: auto]",
        Group.DETAIL,
    )
    slider_steps: float | None = setting(
        None,
        "0..1: the first share of the noise schedule, in which structure is held, if --slider is not larger.  "
        "[default: 1 with --from-image, else as the model recommends]",
        Group.DETAIL,
        range=(0, 1),
    )
    start: float | None = setting(
        None, "0..1: how far into the noise stages start; below 1 they need fewer steps.", Group.QUALITY, range=(0, 1)
    )
    stage_steps: int | None = setting(
        None, "Denoising steps of each stage.  [default: --steps]", Group.QUALITY, least=1
    )
    stage_sampler: str | None = setting(
        None, "--sampler of the stages.  [default: as the base]", Group.QUALITY, choices=SAMPLERS
    )
    stage_guidance_scale: float | None = setting(
        None, "--guidance-scale of the stages.  [default: as the base]", Group.GUIDANCE, range=(0, 1000)
    )
    stage_epsilon_scaling: float | None = setting(
        None,
        "--epsilon-scaling of the stages.  [default: as the base]",
        Group.DETAIL,
        range=EPSILON_SCALINGS,
    )
    texture: float | None = setting(
        None,
        "0..1: strength of the model's texture network; 0 is off.  [default: 1, or as the model recommends]",
        Group.DETAIL,
        range=(0, 1),
    )
    slider_fade: float = setting(
        0.0, "0..1: share of steps over which the Slider fades out.  [default: 0]", Group.DETAIL, range=(0, 1)
    )
    merge: str = setting(
        "hold", "How the smaller picture guides: hold, or phase (paper).  [default: hold]", Group.DETAIL, choices=MERGES
    )
    chess_mask: bool = setting(True, "Apply the paper's chess mask with --merge phase.", Group.DETAIL)
    border: int | None = setting(
        None, "Width, in latents, over which neighbouring patches are averaged; 0 is off.", Group.QUALITY, least=0
    )
    coverage: CoverageName = setting("grid", "Where patches lie.", Group.QUALITY)
    upsampling: Upsampling = setting("lanczos", "How the smaller picture is enlarged.", Group.QUALITY)
    captions: CaptionsName | None = None
    strategy: StrategyName = setting(
        "pixelsmith", "The method; others than pixelsmith are for comparison.", Group.QUALITY
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))
        object.__setattr__(self, "perturbation", perturbation_of(self.perturbation))
        self._check_slider()
        check_numbers(self)
        if self.start == 0:
            raise RequestError("start: expected a share above 0, at most 1; at 0 there is nothing to denoise")
        check_interval("guidance interval", self.guidance_interval)
        check_choices(self, merge=MERGES, coverage=CoverageName, upsampling=Upsampling, strategy=StrategyName)
        for name, choices in (
            ("sampler", SAMPLERS),
            ("stage_sampler", SAMPLERS),
            ("guidance", GUIDANCES),
            ("captions", CaptionsName),
        ):
            if getattr(self, name) is not None:
                check_choices(self, **{name: choices})
        if isinstance(self.slider_map, Path):
            object.__setattr__(self, "slider_map", str(self.slider_map))
        check_text("slider map", self.slider_map, "auto, even or the path of a grey picture")
        object.__setattr__(self, "slider_map", picture_path("slider map", self.slider_map))
        check_flag("chess mask", self.chess_mask)

    def _check_slider(self) -> None:
        if isinstance(self.slider, list | tuple):
            # One for all stages is a number, however it was given.
            object.__setattr__(self, "slider", self.slider[0] if len(self.slider) == 1 else tuple(self.slider))
        if self.slider is not None:
            check_shares("slider", self.sliders)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Method:
        """Read plain values. Raises ``TypeError`` for unknown names."""
        given = values.get("perturbation")
        return cls(**{**values, "perturbation": Perturbation(**given) if isinstance(given, Mapping) else given})

    @property
    def sliders(self) -> tuple[float, ...]:
        """The Slider of the last stages, in order; the first one is that of all stages before them too."""
        return self.slider if isinstance(self.slider, tuple) else () if self.slider is None else (self.slider,)

    @property
    def kernel(self) -> KernelName:
        """The kernel that resamples pictures."""
        return _KERNEL_OF[self.upsampling]

    @property
    def painted_map(self) -> str | None:
        """The path of the Slider map, if it is a picture."""
        return None if self.slider_map in SLIDER_MAPS else self.slider_map

    def settled(self, recommended: Recommended) -> Method:
        """The same method, with open settings filled in as the model recommends."""
        chosen = {name: value for name, value in asdict(self._over(recommended)).items() if name in _OPEN}
        return replace(self, **chosen, slider=self.sliders or self._slider_of(recommended))

    def at(self, stage: int, recommended: Recommended, stages: int = 1) -> StageMethod:
        """The settings of the base (stage 0) or of one of ``stages``."""
        own, start, slider = self._over(recommended), 1.0, 0.0
        if stage > 0:
            of_stage = {name: getattr(own, f"stage_{name}") or getattr(own, name) for name in _ALSO_IN_STAGES}
            own = replace(own, **of_stage)
            start = STRATEGIES[self.strategy].start if self.start is None else self.start
            sliders = self.sliders or (self._slider_of(recommended),)
            slider = sliders[max(0, len(sliders) - 1 - max(0, stages - stage))]
            scale = own.stage_guidance_scale
            if scale is not None and (scale > 1 or not own.guidance_told):
                # "No classifier-free guidance in the stages" saves nothing where the network takes it as an input.
                own = replace(own, guidance_scale=scale)
        same = {item.name: getattr(self, item.name) for item in fields(StageMethod) if hasattr(self, item.name)}
        return StageMethod(**same | _of_stage(own) | {"start": start, "slider": slider, "in_stages": stage > 0})

    def above_given_picture(self) -> Method:
        """The same method, with the Slider at 1 and in all steps where these are open and structure is held."""
        if self._usual_slider is not None:
            return self
        slider = GIVEN_SLIDER if self.slider is None else self.slider
        return replace(self, slider=slider, slider_steps=1.0 if self.slider_steps is None else self.slider_steps)

    def _slider_of(self, recommended: Recommended) -> float:
        """The Slider of all stages if it is open."""
        return recommended.slider if self._usual_slider is None else self._usual_slider

    @property
    def _usual_slider(self) -> float | None:
        """The default Slider of the guide merge, if it has one."""
        return MERGES[STRATEGIES[self.strategy].merge or self.merge].slider

    def _over(self, recommended: Recommended) -> Recommended:
        """The recommendation, overridden by what this method sets: for the base, also in the stages."""
        asked = {name: getattr(self, name) for name in _OPEN if getattr(self, name) is not None}
        as_the_base = {f"stage_{name}": None for name in _ALSO_IN_STAGES if name in asked}
        return replace(recommended, **as_the_base | asked)


_OPEN = (
    "steps", "sampler", "guidance", "guidance_scale", "guidance_rescale", "epsilon_scaling", "stage_steps",
    "stage_sampler", "stage_guidance_scale", "stage_epsilon_scaling", "texture", "captions", "slider_steps",
)  # fmt: skip
"""Settings that a method may leave to the model."""
_ALSO_IN_STAGES = ("steps", "sampler", "epsilon_scaling")
"""Those that, set by a method, replace the model's for the stages. Its stages may be without guidance nevertheless."""


def _of_stage(recommended: Recommended) -> dict[str, Any]:
    """The fields of a recommendation that a stage uses."""
    names = {item.name for item in fields(StageMethod)}
    return {name: value for name, value in asdict(recommended).items() if name in names}


PRESETS: dict[str, Method] = {
    "default": Method(),
    "paper": Method(
        steps=50,
        sampler="ddim",
        guidance_scale=7.5,
        stage_guidance_scale=7.5,
        guidance_rescale=0.0,
        epsilon_scaling=1.0,
        stage_epsilon_scaling=1.0,
        slider=0.6,
        merge="phase",
        chess_mask=True,
        border=10,
        coverage="random",
        upsampling="lanczos",
    ),
    "fast": Method(
        stage_steps=6,
        start=0.75,
        stage_guidance_scale=1.0,
    ),
}
"""Methods by name. ``paper`` is the paper's: 50 DDIM steps, guidance 7.5, random patches, 10 latents of averaging.
``fast`` is for huge pictures: stages of few steps that start from a strongly noised guide; the base is as the model
recommends."""

PRESET_NOTES = {
    "default": "As the model recommends.",
    "fast": "For huge pictures: nearly as good, at 0.3 times the model calls (2048x2048).",
    "paper": "The method as published, to compare with, at ten times the model calls (2048x2048).",
}
"""What each preset does and costs, in model calls of the embedded model (``pixelsmith plan --size 2048``)."""
