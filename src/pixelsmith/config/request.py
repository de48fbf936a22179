"""What the user wants, as small frozen values that are checked when they are made and round-trip through JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.checks import (
    check_choices,
    check_flag,
    check_interval,
    check_range,
    check_shares,
    check_text,
    check_unicode,
    check_whole,
    colour_of,
)
from pixelsmith.config.parts import Parts
from pixelsmith.config.recommended import (
    EPSILON_SCALINGS,
    SLIDER_MAPS,
    CaptionsName,
    GuidanceName,
    MergeName,
    Perturbation,
    Recommended,
    Sampler,
    StageMethod,
    perturbation_of,
)
from pixelsmith.config.sizes import check_dpi
from pixelsmith.config.strategies import MERGINGS, STRATEGIES, StrategyName
from pixelsmith.errors import RequestError
from pixelsmith.geometry import MAX_SIDE, Size
from pixelsmith.system.places import picture_path

CoverageName = Literal["grid", "random"]
Upsampling = Literal["lanczos", "bicubic", "latent"]
DeviceName = Literal["auto", "cuda", "rocm", "mps", "xpu", "cpu"]
DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
MemoryMode = Literal["all", "encoders-released", "offload", "sequential"]

_RANGES: dict[str, tuple[float, float]] = {
    "guidance_scale": (0, 1000),
    "stage_guidance_scale": (0, 1000),
    "guidance_rescale": (0, 1),
    "epsilon_scaling": EPSILON_SCALINGS,
    "stage_epsilon_scaling": EPSILON_SCALINGS,
    "texture": (0, 1),
    "start": (0, 1),
    "slider_fade": (0, 1),
    "slider_steps": (0, 1),
}
"""Numbers of a method that are at least 0 and at most this."""

GIVEN_SLIDER = 1.0
"""The Slider above a given picture, where structure is held: nothing that it shows is lost."""
MAX_SEED = 2**64 - 1
"""The largest number that PyTorch's generators begin with."""
DEPTHS = (8, 16)
"""Bits of a channel that files can have."""
MAX_FEATHER = 10_000
"""Pixels of a mask's edges: so many around each window are read for it."""
EMBEDDED = "embedded"
"""The name of the model that comes with the package."""


@dataclass(frozen=True)
class Method:
    """How a picture is denoised. The defaults and their reasons are in docs/decisions/0004-defaults.md.

    Where ``steps``, ``sampler``, ``guidance``, ``guidance_scale``, ``guidance_rescale``, ``epsilon_scaling``,
    ``stage_guidance_scale``, ``stage_epsilon_scaling``, ``texture``, ``captions`` and ``slider`` are ``None``,
    they are as the model recommends (``Recommended``), and ``slider`` is 1 above a picture that is given; ``at`` gives
    those of one rung.

    - ``steps``: denoising steps of the base and of every stage, at least 1; ``stage_steps``: other ones for the stages.
    - ``start``: above 0, at most 1: the share of the noise schedule that a stage goes through. Below 1 it starts from a
      guide that is less noisy than pure noise: the coarse part is trusted, and fewer steps do. ``None`` is as the
      strategy has it: all of it, if nothing else.
    - ``sampler``: ``ddim`` (for flow models the same rule is Euler), ``dpmpp-2m`` (second order, for few steps),
      ``euler-a`` or ``lcm``, which add noise of their own at each step (``pixelsmith.sampling.samplers``).
    - ``guidance``: how the estimates with and without the prompt are put together
      (``pixelsmith.sampling.guidance.GUIDANCES``): ``cfg`` is classifier-free guidance; ``cfg-norm`` and
      ``cfg-norm-rows`` keep the norm of the prediction; ``cfg-zero`` is CFG-Zero*, for flow matching; ``apg`` adaptive
      projected guidance.
    - ``guidance_scale``: classifier-free guidance; 1 and less is the prompt alone. Models that take their guidance
      scale as an input (``Recommended.guidance_told``) are given this number. ``stage_guidance_scale``: another one for
      the stages.
    - ``guidance_rescale``: 0..1, how far the spread of the guided estimate is brought back to the unguided one's.
    - ``epsilon_scaling``: 0.5..2, what the estimated noise is divided by: a little above 1 for more detail, 1 is off
      (``pixelsmith.sampling.guidance.EpsilonScaled``). ``stage_epsilon_scaling``: another one for the stages.
    - ``texture``: 0..1, the share that is added of what a model's texture network draws at the scale of pixels
      (``pixelsmith.families.textures``, docs/decisions/0027-drawn-texture.md); models without one have no use for it.
    - ``guidance_interval``: the part of the denoising, as two shares in 0..1, in which guidance is on.
    - ``perturbation``: a perturbed network that is guided away from, in the base and in the stages, for a call more of
      each patch; also the name of one of ``PERTURBATIONS`` (docs/decisions/0017-perturbations.md).
    - ``slider``: 0..1, how faithful a stage is to the picture below: low invents detail, high keeps structure. One for
      all stages, or one for each of the last ones, in order; the first number is that of all stages before them too.
      What it means follows from ``merge``. ``hold``: held is what the picture below would still show at this share of
      its size: 1 is all that it shows, 0.25 what it would at a quarter (docs/decisions/0023-held-structure.md). Else
      (the paper): the share of guided steps.
    - ``slider_map``: where structure is held: ``auto`` (everywhere, and new detail is moderated where the picture below
      is flat), ``even`` (everywhere, nothing is moderated), or the path of a grey picture of any size, which gives
      positions instead of ``slider``: white holds, black frees.
    - ``slider_steps``: 0..1, the share of steps in which structure is held.
    - ``slider_fade``: 0..1, the share of steps over which the lead fades out; 0 is a hard cut.
    - ``merge``: how the picture below is merged into patches (``pixelsmith.sampling.merging.MERGES``): ``hold`` the
      structure of the clean estimate, or ``phase`` fusion as in the paper, its ablations, DemoFusion's ``residual``.
    - ``chess_mask``: whether, in the paper's way, the guide replaces every other latent pixel after a guided step.
    - ``border``: width in latents over which neighbouring patches are averaged; 0 is off, ``None`` is as wide
      for the model's patch as the paper's 10 latents are for a patch of 128.
    - ``coverage``: ``grid`` (shifted at every step) or ``random`` (as in the paper).
    - ``upsampling``: how the previous picture becomes the guide.
    - ``captions``: ``auto``: the prompt of a patch begins with what the picture below shows there, as a captioner says
      (``Parts.captioner``, docs/decisions/0026-captions.md); ``off``: all patches have the prompt alone.
    - ``strategy``: the way to a larger picture; there are others, to compare (``pixelsmith.config.strategies``).

    Raises ``RequestError`` for a value out of range.

    Examples:
        >>> Method(slider=(0.9, 0.6)).sliders
        (0.9, 0.6)
        >>> Method(slider=2)
        Traceback (most recent call last):
        ...
        pixelsmith.errors.RequestError: slider: expected a number from 0 to 1, got 2
    """

    steps: int | None = None
    sampler: Sampler | None = None
    guidance: GuidanceName | None = None
    guidance_scale: float | None = None
    guidance_rescale: float | None = None
    epsilon_scaling: float | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    perturbation: Perturbation | None = None
    slider: float | tuple[float, ...] | None = None
    slider_map: str = "auto"
    slider_steps: float = 1.0
    start: float | None = None
    stage_steps: int | None = None
    stage_guidance_scale: float | None = None
    stage_epsilon_scaling: float | None = None
    texture: float | None = None
    slider_fade: float = 0.0
    merge: MergeName = "hold"
    chess_mask: bool = True
    border: int | None = None
    coverage: CoverageName = "grid"
    upsampling: Upsampling = "lanczos"
    captions: CaptionsName | None = None
    strategy: StrategyName = "pixelsmith"

    def __post_init__(self) -> None:
        object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))
        object.__setattr__(self, "perturbation", perturbation_of(self.perturbation))
        self._settle_slider()
        for name in ("steps", "stage_steps", "border"):
            if getattr(self, name) is not None:
                check_whole(name.replace("_", " "), getattr(self, name), least=0 if name == "border" else 1)
        for name, (least, most) in _RANGES.items():
            if getattr(self, name) is not None:
                check_range(name.replace("_", " "), getattr(self, name), least, most)
        if self.start == 0:
            raise RequestError("start: expected a share above 0, at most 1; at 0 there is nothing to denoise")
        check_interval("guidance interval", self.guidance_interval)
        check_choices(self, merge=MergeName, coverage=CoverageName, upsampling=Upsampling, strategy=StrategyName)
        for name, choices in (("sampler", Sampler), ("guidance", GuidanceName), ("captions", CaptionsName)):
            if getattr(self, name) is not None:
                check_choices(self, **{name: choices})
        if isinstance(self.slider_map, Path):
            object.__setattr__(self, "slider_map", str(self.slider_map))
        check_text("slider map", self.slider_map, "auto, even or the path of a grey picture")
        object.__setattr__(self, "slider_map", picture_path("slider map", self.slider_map))
        check_flag("chess mask", self.chess_mask)

    def _settle_slider(self) -> None:
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
    def painted_map(self) -> str | None:
        """The path of the Slider map, if it is a picture."""
        return None if self.slider_map in SLIDER_MAPS else self.slider_map

    def settled(self, recommended: Recommended) -> Method:
        """The same with the model's choices where it leaves them open."""
        chosen = {name: value for name, value in asdict(self._over(recommended)).items() if name in _OPEN}
        return replace(self, **chosen, slider=self.sliders or self._slider_of(recommended))

    def at(self, stage: int, recommended: Recommended, stages: int = 1) -> StageMethod:
        """What the base (stage 0) or one of ``stages`` is denoised with."""
        own, start, slider = self._over(recommended), 1.0, 0.0
        if stage > 0:
            own = replace(own, steps=self.stage_steps or own.steps)
            own = replace(own, epsilon_scaling=own.stage_epsilon_scaling or own.epsilon_scaling)
            start = STRATEGIES[self.strategy].start if self.start is None else self.start
            sliders = self.sliders or (self._slider_of(recommended),)
            slider = sliders[max(0, len(sliders) - 1 - max(0, stages - stage))]
            scale = own.stage_guidance_scale
            if scale is not None and (scale > 1 or not own.guidance_told):
                # "No classifier-free guidance in the stages" saves nothing where the network takes it as an input.
                own = replace(own, guidance_scale=scale)
        same = {item.name: getattr(self, item.name) for item in fields(StageMethod) if hasattr(self, item.name)}
        return StageMethod(**same | _of_stage(own) | {"start": start, "slider": slider})

    def above_given_picture(self) -> Method:
        """The same, with the Slider at 1 where structure is held and nothing was said: no base is to be redrawn."""
        opened = self.slider is None and self._usual_slider is None
        return replace(self, slider=GIVEN_SLIDER) if opened else self

    def _slider_of(self, recommended: Recommended) -> float:
        """The Slider of all stages, where nothing was said of it."""
        return recommended.slider if self._usual_slider is None else self._usual_slider

    @property
    def _usual_slider(self) -> float | None:
        """That of the way to merge the guide, if it has one."""
        return MERGINGS[STRATEGIES[self.strategy].merge or self.merge].slider

    def _over(self, recommended: Recommended) -> Recommended:
        """What is recommended, with what was asked for in its place."""
        asked = {name: getattr(self, name) for name in _OPEN if getattr(self, name) is not None}
        return replace(recommended, **asked)


_OPEN = (
    "steps", "sampler", "guidance", "guidance_scale", "guidance_rescale", "epsilon_scaling", "stage_guidance_scale",
    "stage_epsilon_scaling", "texture", "captions",
)  # fmt: skip
"""What a method may leave to the model."""


def _of_stage(recommended: Recommended) -> dict[str, Any]:
    """What a stage takes of a recommendation."""
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
"""Named methods. ``paper`` is the paper's: 50 DDIM steps, guidance 7.5, random patches, 10 latents of averaging.
``fast`` is for huge pictures: stages of few steps, from where the guide is nearly drowned in noise; the base is as the
model recommends."""


@dataclass(frozen=True)
class Compute:
    """Where and how the work is done. Of it only ``dtype`` is meant to show in the picture: the rest
    changes it by rounding (docs/decisions/0013-devices.md).

    - ``device``: where the model runs; ``auto`` takes a GPU if there is one. ``rocm`` and ``cuda`` are the same.
    - ``dtype``: of the network's numbers; ``auto`` is half precision where the device is fast in it.
    - ``batch_size``: patches in one call of the network, at least 1; ``None`` chooses by the device and their size.
    - ``memory``: what is on the device: ``all`` of the model; all, with the text encoders released once they have read
      the prompt; one part at a time (``offload``); one layer at a time (``sequential``, slow).
    - ``compile``: compile the network, and an autoencoder of residual blocks.
    - ``channels_last``: another order of values in memory.

    Raises ``RequestError`` for an unknown device, dtype or memory mode.
    """

    device: DeviceName = "auto"
    dtype: DtypeName = "auto"
    batch_size: int | None = None
    memory: MemoryMode = "all"
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        check_choices(self, device=DeviceName, dtype=DtypeName, memory=MemoryMode)
        if self.batch_size is not None:
            check_whole("batch size", self.batch_size, least=1)


@dataclass(frozen=True)
class Placement:
    """What a run that goes on may change of its ``Compute``; ``None`` leaves it as it was.

    ``memory`` never shows in the picture; another ``device`` or ``batch_size`` changes it by rounding. Raises
    ``RequestError`` as ``Compute`` does.
    """

    device: DeviceName | None = None
    memory: MemoryMode | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        self.of(Compute())

    def of(self, compute: Compute) -> Compute:
        """The same with what was changed."""
        return replace(compute, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class Request:
    """One picture to make.

    - ``prompt``, ``negative_prompt``: text; the prompt must not be empty.
    - ``prompt_weighting``: whether both are read as compel reads them: ``(word)1.3``, ``word++``, and to their end
      however long they are. For Stable Diffusion 1.x and 2.x and SDXL.
    - ``size``: the exact size of the result in pixels, at most ``MAX_SIDE`` on a side.
    - ``seed``: 0 to ``MAX_SEED``; the same request and seed give the same picture.
    - ``model``: a folder in the diffusers format, a single ``.safetensors`` file, a hub id, or ``embedded``.
    - ``parts``: which of its files are taken, and what is put beside or in the place of its own.
    - ``method``: how the picture is denoised; ``compute``: where and how the work is done.
    - ``from_image``: the path of a picture to start the cascade from, in place of a generated base.
    - ``cascade``: sizes of the stages, each at least as large as the one before; a larger ``size`` follows as one more
      stage, a smaller one is scaled down to from the last. Empty chooses the stages. Where shapes differ, the middle
      of a picture is used.
    - ``dpi``: dots per inch that the file says, 1 to 10,000; ``None`` for those of ``from_image``, or else
      ``pixelsmith.config.sizes.PRINT_DPI``.
    - ``strip``: whether what ``from_image`` says besides its pixels (EXIF, IPTC, XMP, its resolution, its place on
      earth) is left out.
    - ``mask``: the path of a grey picture, of the shape of ``from_image`` or of the result and of any size: white is
      refined, black stays what the enlarged ``from_image`` is. ``mask_feather``: how many pixels of each stage wide its
      edges are, 0 to 10,000.
    - ``depth``: bits of a channel of the file, 8 or 16; ``dither``: whether 8 are dithered, so that smooth gradients
      have no steps. With either the last picture is kept as it is decoded, in four times the room.
    - ``background``: a colour as CSS writes it that the transparency of ``from_image`` is laid over; ``None`` keeps it.

    Raises ``RequestError`` where a value is out of range, the cascade shrinks, or there is a mask but no picture.

    Examples:
        >>> request = Request("map of a coast", Size(4096, 2048), seed=7, method=PRESETS["fast"])
        >>> request.method.stage_steps
        6
        >>> Request.from_dict(request.to_dict()) == request
        True
        >>> request.with_method(slider=0.4).method.slider
        0.4
    """

    prompt: str
    size: Size
    negative_prompt: str = ""
    seed: int = 0
    model: str = EMBEDDED
    parts: Parts = field(default_factory=Parts)
    from_image: str | None = None
    cascade: tuple[Size, ...] = ()
    method: Method = field(default_factory=Method)
    compute: Compute = field(default_factory=Compute)
    prompt_weighting: bool = False
    dpi: float | None = None
    strip: bool = False
    background: str | None = None
    mask: str | None = None
    mask_feather: int = 16
    depth: int = 8
    dither: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cascade", tuple(self.cascade))
        check_unicode("prompt", self.prompt)
        check_unicode("negative prompt", self.negative_prompt)
        if not self.prompt.strip():
            raise RequestError("the prompt is empty; say what the picture should show")
        if not self.model.strip():
            raise RequestError("the model is empty; give a folder, a .safetensors file, a hub id, or 'embedded'")
        check_flag("prompt weighting", self.prompt_weighting)
        check_whole("seed", self.seed, least=0)
        if self.seed > MAX_SEED:
            raise RequestError(f"seed: expected at most {MAX_SEED}, got {self.seed}")
        check_flag("strip", self.strip)
        if self.background is not None:
            colour_of("background", self.background)
        if self.dpi is not None:
            check_dpi(self.dpi)
        if self.from_image is not None:
            object.__setattr__(self, "from_image", picture_path("from image", str(self.from_image)))
            object.__setattr__(self, "method", self.method.above_given_picture())
        check_flag("dither", self.dither)
        if self.depth not in DEPTHS or type(self.depth) is not int:
            raise RequestError(f"depth: expected 8 or 16 bits a channel, got {self.depth!r}")
        if self.dither and self.depth > min(DEPTHS):
            raise RequestError("dither: it is for 8 bits a channel; leave it out, or --depth")
        self._check_mask()
        self._check_sizes()

    def _check_mask(self) -> None:
        check_whole("mask feather", self.mask_feather, least=0)
        if self.mask_feather > MAX_FEATHER:
            raise RequestError(f"mask feather: expected at most {MAX_FEATHER:,} pixels, got {self.mask_feather:,}")
        if self.mask is None:
            return
        object.__setattr__(self, "mask", picture_path("mask", str(self.mask)))
        if self.from_image is None:
            raise RequestError("mask: it says what stays of a picture to start from; give one (--from-image)")

    def _check_sizes(self) -> None:
        sizes = self.cascade
        if sizes and not self.size.fits_in(sizes[-1]):
            sizes = (*sizes, self.size)
        for size in (*sizes, self.size):
            if max(size.width, size.height) > MAX_SIDE:
                raise RequestError(f"size: expected at most {MAX_SIDE:,} pixels a side, got {size}")
        for before, after in pairwise(sizes):
            if not before.fits_in(after):
                raise RequestError(f"the cascade shrinks from {before} to {after}; no side of a stage may shrink")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back to an equal request."""
        values = asdict(self, dict_factory=_with_lists)
        return values | {"size": str(self.size), "cascade": [str(size) for size in self.cascade]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """Read what ``to_dict`` wrote. Raises ``RequestError`` for unknown names, missing ones or wrong types."""
        try:
            known = dict(values)
            known["size"] = Size.parse(known["size"])
            known["cascade"] = tuple(Size.parse(size) for size in known.get("cascade", ()))
            known["parts"] = Parts.from_dict(known.get("parts", {}))
            known["method"] = Method.from_dict(known.get("method", {}))
            known["compute"] = Compute(**known.get("compute", {}))
            return cls(**known)
        except (TypeError, KeyError, AttributeError) as error:
            names = ", ".join(item.name for item in fields(cls))
            raise RequestError(f"not a request ({error}); it needs {names}") from error

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The pictures that it is made with: the one to start from, the Slider map, the mask."""
        named = (self.from_image, self.method.painted_map, self.mask)
        return tuple(Path(name) for name in named if name is not None)

    @property
    def unrounded(self) -> bool:
        """Whether the values of the last picture are kept as they are decoded."""
        return self.dither or self.depth > min(DEPTHS)

    def settled(self, recommended: Recommended) -> Request:
        """The same request with what its method leaves open as the model recommends it."""
        return replace(self, method=self.method.settled(recommended))

    def with_method(self, **changes: Any) -> Request:
        """The same request with some values of its method changed."""
        return replace(self, method=replace(self.method, **changes))


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """What JSON knows: a list for a tuple."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in items}
