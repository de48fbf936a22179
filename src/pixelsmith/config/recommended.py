"""The settings that a model recommends, and the final settings of one rung of the cascade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pixelsmith.config.checks import check_choices, check_interval, check_range, check_whole
from pixelsmith.errors import RequestError
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.samplers import SAMPLERS

CaptionsName = Literal["auto", "off"]
PerturbationName = Literal["pag", "slg"]
SLIDER_MAPS = ("auto", "even")
"""Slider maps that are not pictures: computed from the picture below, and constant."""


@dataclass(frozen=True)
class Perturbation:
    """A worse network to be guided away from: the model's own, conditioned on the prompt, with some blocks perturbed.

    - ``name``: ``pag``: an image token there sees of the image only itself (perturbed attention guidance, arXiv
      2403.17377); ``slg``: the blocks are skipped (skip layer guidance, as in the pipeline of Stable Diffusion 3.5).
    - ``scale``: 0..1000, what is added of the difference; 0 is off. ``interval``: the part of the denoising, as two
      shares in 0..1, in which it is on.
    - ``layers``: which blocks, from 0: of the transformer, or of the middle of the U-Net. Empty chooses by the network
      (``pixelsmith.families.shared.perturbed``).

    Raises ``RequestError`` for a value out of range.
    """

    name: PerturbationName
    scale: float
    interval: tuple[float, float]
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("interval", "layers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.name not in get_args(PerturbationName):
            names = ", ".join(get_args(PerturbationName))
            raise RequestError(f"perturbation: expected one of {names}, got {self.name!r}")
        check_range("perturbation scale", self.scale, 0, 1000)
        check_interval("perturbation interval", self.interval)
        for layer in self.layers:
            check_whole("perturbed layers", layer, least=0)

    def is_on(self, progress: float) -> bool:
        """At this share (0..1) of the denoising."""
        start, end = self.interval
        return self.scale > 0 and start <= progress < end


PERTURBATIONS: dict[str, Perturbation] = {
    "pag": Perturbation("pag", scale=3.0, interval=(0.0, 1.0)),
    "slg": Perturbation("slg", scale=2.8, interval=(0.01, 0.2)),
}
"""With the defaults of their pipelines."""


def perturbation_of(given: Any) -> Perturbation | None:
    """The perturbation itself, or the one of that name. Raises ``RequestError`` for anything else."""
    found = PERTURBATIONS.get(given) if isinstance(given, str) else given
    if given is not None and not isinstance(found, Perturbation):
        raise RequestError(f"perturbation: expected a Perturbation or one of {', '.join(PERTURBATIONS)}, got {given!r}")
    return found


EPSILON_SCALINGS = (0.5, 2.0)
"""The smallest and the largest; beyond them pictures are only blur or noise."""


@dataclass(frozen=True)
class Recommended:
    """The settings that a model recommends, used for what a ``Method`` leaves open.

    ``guidance_told``: whether the network takes its guidance scale as an input (distilled models), instead of
    classifier-free guidance. ``stage_steps``, ``stage_sampler``, ``stage_guidance_scale``, ``stage_epsilon_scaling``:
    those of the stages, ``None`` for the base's. ``slider``, ``slider_steps``: those of stages above a picture of the
    model's own, where structure is held. ``texture``: 0..1, of a model that has a texture network (``Method``). A model
    folder may carry other choices in its ``pixelsmith.json``.

    Raises ``RequestError`` for a value out of range.
    """

    steps: int = 20
    guidance: str = "cfg"
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    guidance_told: bool = False
    sampler: str = "ddim"
    epsilon_scaling: float = 1.0
    stage_steps: int | None = None
    stage_sampler: str | None = None
    stage_guidance_scale: float | None = None
    stage_epsilon_scaling: float | None = None
    slider: float = 0.5
    slider_steps: float = 1.0
    captions: CaptionsName = "off"
    texture: float = 1.0

    def __post_init__(self) -> None:
        check_whole("steps", self.steps, least=1)
        check_choices(self, sampler=SAMPLERS, guidance=GUIDANCES, captions=CaptionsName)
        check_range("guidance scale", self.guidance_scale, 0, 1000)
        check_range("guidance rescale", self.guidance_rescale, 0, 1)
        check_range("epsilon scaling", self.epsilon_scaling, *EPSILON_SCALINGS)
        check_range("slider", self.slider, 0, 1)
        check_range("slider steps", self.slider_steps, 0, 1)
        if self.stage_steps is not None:
            check_whole("stage steps", self.stage_steps, least=1)
        if self.stage_sampler is not None:
            check_choices(self, stage_sampler=SAMPLERS)
        if self.stage_guidance_scale is not None:
            check_range("stage guidance scale", self.stage_guidance_scale, 0, 1000)
        if self.stage_epsilon_scaling is not None:
            check_range("stage epsilon scaling", self.stage_epsilon_scaling, *EPSILON_SCALINGS)
        check_range("texture", self.texture, 0, 1)


@dataclass(frozen=True)
class StageMethod:
    """The settings that one rung is denoised with, all of them decided (``Method.at``).

    ``in_stages``: whether it is a stage, not the base.
    """

    in_stages: bool
    steps: int
    sampler: str
    guidance: str
    guidance_scale: float
    guidance_rescale: float
    guidance_told: bool
    epsilon_scaling: float
    texture: float
    guidance_interval: tuple[float, float]
    perturbation: Perturbation | None
    start: float
    slider: float
    slider_fade: float
    slider_steps: float
    slider_map: str
    merge: str
    chess_mask: bool
    captions: CaptionsName

    @property
    def holds(self) -> bool:
        """Whether any structure is held, where that is how the guide is merged."""
        return self.slider > 0 or self.paints

    @property
    def paints(self) -> bool:
        """Whether a picture says where structure is held."""
        return self.slider_map not in SLIDER_MAPS

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

    @property
    def perturbs(self) -> bool:
        """Whether a perturbed network is guided away from at any of the steps."""
        return any(self.perturbs_at(step / self.steps) for step in range(self.steps))

    def perturbs_at(self, progress: float) -> bool:
        """Whether a perturbed network is guided away from at this share (0..1) of the denoising."""
        return self.perturbation is not None and self.perturbation.is_on(progress)

    def calls_at(self, progress: float, prompts: float = 1, negatives: float = 1) -> float:
        """Evaluations of the network that one patch takes: with its prompts, with the negative ones, perturbed."""
        return prompts * (1 + self.perturbs_at(progress)) + negatives * self.guides_at(progress)

    def calls(self, first: int | None = None, prompts: float = 1, negatives: float = 1) -> float:
        """Evaluations of the network that one patch takes in its first steps; without ``first`` in all."""
        steps = range(self.steps if first is None else first)
        return sum(self.calls_at(step / self.steps, prompts, negatives) for step in steps)
