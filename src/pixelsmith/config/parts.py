"""Which parts of a model are loaded, and what is added to it, as small frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pixelsmith.config.checks import check_choices, check_flag, check_range, check_text
from pixelsmith.config.settings import Group, setting
from pixelsmith.errors import RequestError
from pixelsmith.system.places import at_home, given_place

SchedulerName = Literal[
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "LCMScheduler",
    "UniPCMultistepScheduler",
]
"""Schedulers of diffusers that are supported as they are."""
TimestepSpacing = Literal["leading", "linspace", "trailing"]
Quantization = Literal["int8", "float8"]


@dataclass(frozen=True)
class Lora:
    """Low-rank weights to add to the model's; ``weight`` -10..10.

    - ``path``: a ``.safetensors`` file, a folder or hub id with one, or a hub id's (``owner/name/file.safetensors``).
    - ``stages_only``: whether they are added to the network in the stages alone, and the base is made without them, as
      suits LoRAs for few steps and for detail. Their weights for text encoders, if there are any, are not used then.

    Raises ``RequestError`` for a weight out of range.
    """

    path: str
    weight: float = 1.0
    stages_only: bool = False

    def __post_init__(self) -> None:
        check_text("LoRA", self.path, "a file, a folder or a hub id")
        check_range("weight of a LoRA", self.weight, -10, 10)
        check_flag("stages_only of a LoRA", self.stages_only)

    @classmethod
    def parse(cls, text: str) -> Lora:
        """Read ``PATH`` or ``PATH:WEIGHT``, both with ``:stages`` at the end or without. Raises ``RequestError``.

        Examples:
            >>> Lora.parse("ink.safetensors:0.8")
            Lora(path='ink.safetensors', weight=0.8, stages_only=False)
            >>> Lora.parse("lightning.safetensors:stages")
            Lora(path='lightning.safetensors', weight=1.0, stages_only=True)
        """
        given = cls(*_numbered(text.removesuffix(_IN_STAGES)))
        return replace(given, stages_only=text.endswith(_IN_STAGES))


_IN_STAGES = ":stages"
LEAVE_OUT_STAGES = "leave out :stages behind the LoRA, or give --no-few-steps if it is the model's own"
"""What to do where a LoRA of the stages alone cannot be used."""


@dataclass(frozen=True)
class IPAdapter:
    """Weights by which the model is prompted by a picture (``Request.ip_adapter_images``; arXiv 2308.06721).

    - ``path``: a ``.safetensors`` file, here or of a hub id (``owner/name/folder/file.safetensors``).
    - ``scale``: how strongly, 0..10.

    Raises ``RequestError`` for a scale out of range.
    """

    path: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_text("IP-Adapter", self.path, "a file or a hub id's")
        check_range("scale of an IP-Adapter", self.scale, 0, 10)

    @classmethod
    def parse(cls, text: str) -> IPAdapter:
        """Read ``PATH`` or ``PATH:SCALE``. Raises ``RequestError``.

        Examples:
            >>> IPAdapter.parse("ip-adapter_sd15.safetensors:0.6").scale
            0.6
        """
        return cls(*_numbered(text))


@dataclass(frozen=True)
class ControlNet:
    """A network that conditions the model on a control picture (``Request.control_images``).

    - ``path``: a folder in the diffusers format or a hub id.
    - ``conditioning_scale``: how strongly, 0..10.
    - ``guidance_start``, ``guidance_end``: in which part of the denoising, 0..1: it is on from the step that begins at
      the one up to, but without, the step that begins at the other.

    Raises ``RequestError`` for values out of range.
    """

    path: str
    conditioning_scale: float = 1.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0

    def __post_init__(self) -> None:
        check_text("controlnet", self.path, "a folder or a hub id")
        check_range("conditioning scale of a controlnet", self.conditioning_scale, 0, 10)
        check_range("guidance start of a controlnet", self.guidance_start, 0, 1)
        check_range("guidance end of a controlnet", self.guidance_end, 0, 1)
        if self.guidance_start >= self.guidance_end:
            raise RequestError(
                f"controlnet: expected a guidance start before its end, got {self.guidance_start} and "
                f"{self.guidance_end}"
            )

    def is_on(self, progress: float) -> bool:
        """Whether it is followed at this share (0..1) of the denoising."""
        return self.conditioning_scale > 0 and self.guidance_start <= progress < self.guidance_end

    @classmethod
    def parse(cls, text: str) -> ControlNet:
        """Read ``PATH``, ``PATH:SCALE`` or ``PATH:SCALE:START:END``. Raises ``RequestError``, also for two numbers.

        Examples:
            >>> ControlNet.parse("tile:0.6:0:0.8").guidance_end
            0.8
        """
        for count in (3, 2, 1):
            path, *said = text.rsplit(":", count)
            try:
                numbers = [float(part) for part in said]
            except ValueError:
                # A colon can belong to the path.
                continue
            if path and len(numbers) == count:
                if count == 2:
                    raise RequestError(f"controlnet: expected PATH, PATH:SCALE or PATH:SCALE:START:END, got {text!r}")
                return cls(path, *numbers)
        return cls(text)


@dataclass(frozen=True)
class Parts:
    """Which of a model's files are loaded, and what is added to the model or replaces a part of it.

    - ``variant``: of its weight files, such as ``fp16``.
    - ``config``: for a model in a single file, the folder or hub id with its configuration files; ``None`` looks in the
      hub's cache for the one that diffusers knows for such files.
    - ``vae``: another autoencoder for the same latents, full or tiny; ``network``: another U-Net or transformer of the
      same family. Each a diffusers folder, a hub id, or a single ``.safetensors`` file, here or of a hub id
      (``owner/name/file.safetensors``); a network also a ``.gguf`` file.
    - ``quantize``: the format that the network's linear layers are converted to after loading.
    - ``loras``, in the order in which they are added, those of the stages alone last; ``textual_inversions``: files,
      whose names are their tokens.
    - ``controlnets``: ControlNets, in the order of the request's ``control_images``.
    - ``ip_adapters``: IP-Adapters, in the order of the request's ``ip_adapter_images``; ``image_encoder``: the folder
      of the CLIP or SigLIP vision model that they all use, or a file of a hub id in such a folder
      (``owner/name/folder/model.safetensors``); ``None`` is the folder ``image_encoder`` beside the first of them.
    - ``upsampler``: a super-resolution network that enlarges the smaller picture of each stage, before it is resampled
      to the stage's size (``Method.upsampling``): a file that spandrel loads, or a hub id's.
    - ``few_steps``: whether to add the few-step LoRA that the model's folder names (docs/decisions/0021-few-steps.md),
      with its scheduler and steps; ``None`` adds it if there is one.
    - ``scheduler``, ``timestep_spacing``: replace the scheduler's class and its timestep spacing, as LoRAs and
      checkpoints for few steps need; not for flow matching.
    - ``captioner``: the folder or hub id of an image-to-text model or image classifier of transformers, which describes
      parts of a picture (``Method.captions``); ``None`` is the model's own.
    - ``allow_pickle``: whether weights may be read from pickles, which can run any code.

    Raises ``RequestError`` for values of the wrong type.
    """

    variant: str | None = setting(None, "Variant of the model's weight files, such as fp16.", Group.MODEL)
    config: str | None = setting(
        None, "Folder or hub id with the configuration of a single file.", Group.MODEL, option="--model-config"
    )
    vae: str | None = setting(
        None, "Another autoencoder, full or tiny: a folder, a .safetensors file, or a hub id.", Group.MODEL
    )
    network: str | None = setting(None, "Another U-Net or transformer: the same, or a .gguf file.", Group.MODEL)
    quantize: Quantization | None = setting(None, "Quantise the network after loading.", Group.MODEL)
    loras: tuple[Lora, ...] = setting(
        (),
        "A LoRA and its weight; with :stages the base is made without it. Can be given several times.",
        Group.MODEL,
        option="--lora",
        metavar="PATH[:WEIGHT][:stages]",
        common=True,
    )
    textual_inversions: tuple[str, ...] = setting(
        (),
        "A textual inversion; the file's name is its token in the prompt. Can be given several times.",
        Group.MODEL,
        option="--textual-inversion",
        metavar="PATH",
    )
    controlnets: tuple[ControlNet, ...] = setting(
        (),
        "A ControlNet (a folder or a hub id), how strongly and when its --control-image is followed. Can be given "
        "several times.",
        Group.MODEL,
        option="--controlnet",
        metavar="PATH[:SCALE[:START:END]]",
    )
    ip_adapters: tuple[IPAdapter, ...] = setting(
        (),
        "An IP-Adapter, and how strongly it follows its --ip-adapter-image. Can be given several times.",
        Group.MODEL,
        option="--ip-adapter",
        metavar="PATH[:SCALE]",
    )
    image_encoder: str | None = setting(
        None,
        "The CLIP or SigLIP vision model of IP-Adapters.  [default: the folder image_encoder beside the first]",
        Group.MODEL,
    )
    upsampler: str | None = setting(
        None,
        "A super-resolution network that enlarges the smaller picture of each stage: a .safetensors file.",
        Group.MODEL,
        metavar="FILE",
    )
    few_steps: bool | None = setting(
        False, "Add the model's own LoRA for few steps.  [default: with --preset fast, if it has one]", Group.QUALITY
    )
    scheduler: SchedulerName | None = setting(None, "Another scheduler than the model's own.", Group.MODEL)
    timestep_spacing: TimestepSpacing | None = setting(None, "How the scheduler spaces its timesteps.", Group.MODEL)
    captioner: str | None = None
    allow_pickle: bool = setting(False, "Read weights from pickles; they can run any code.", Group.MODEL)

    def __post_init__(self) -> None:
        object.__setattr__(self, "loras", tuple(self.loras))
        object.__setattr__(self, "textual_inversions", tuple(self.textual_inversions))
        object.__setattr__(self, "controlnets", tuple(self.controlnets))
        object.__setattr__(self, "ip_adapters", tuple(self.ip_adapters))
        kinds = {"scheduler": SchedulerName, "timestep_spacing": TimestepSpacing, "quantize": Quantization}
        check_choices(self, **{name: kind for name, kind in kinds.items() if getattr(self, name) is not None})
        named_parts = ("variant", "config", "vae", "network", "image_encoder", "upsampler")
        named = {name: getattr(self, name) for name in named_parts}
        for name, text in (*named.items(), *(("textual inversion", text) for text in self.textual_inversions)):
            if text is not None:
                check_text(name, text, "a name")
        if self.quantize is not None and self.stage_loras:
            raise RequestError(f"quantize: LoRAs cannot be exchanged in a quantised network; {LEAVE_OUT_STAGES}")
        if self.image_encoder is not None and not self.ip_adapters:
            raise RequestError("image encoder: only IP-Adapters use it; leave it out, or give --ip-adapter")
        for name, choices in (("few_steps", (True, False, None)), ("allow_pickle", (True, False))):
            value = getattr(self, name)
            if not any(value is choice for choice in choices):
                names = ", ".join(map(str, choices))
                raise RequestError(f"{name.replace('_', ' ')}: expected one of {names}, got {value!r}")

    @property
    def stage_loras(self) -> tuple[Lora, ...]:
        """The LoRAs of the stages alone."""
        return tuple(lora for lora in self.loras if lora.stages_only)

    def located(self, folder: Path) -> Parts:
        """The same parts with paths resolved against ``folder``."""
        return replace(
            self,
            config=None if self.config is None else located(self.config, folder),
            vae=None if self.vae is None else located(self.vae, folder),
            network=None if self.network is None else located(self.network, folder),
            loras=tuple(replace(lora, path=located(lora.path, folder)) for lora in self.loras),
            textual_inversions=tuple(located(path, folder) for path in self.textual_inversions),
            controlnets=tuple(replace(net, path=located(net.path, folder)) for net in self.controlnets),
            ip_adapters=tuple(replace(one, path=located(one.path, folder)) for one in self.ip_adapters),
            image_encoder=None if self.image_encoder is None else located(self.image_encoder, folder),
            upsampler=None if self.upsampler is None else located(self.upsampler, folder),
            captioner=None if self.captioner is None else located(self.captioner, folder),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Parts:
        """Read plain values. Raises ``TypeError`` for unknown names."""
        loras = tuple(Lora(**lora) for lora in values.get("loras", ()))
        controlnets = tuple(ControlNet(**net) for net in values.get("controlnets", ()))
        ip_adapters = tuple(IPAdapter(**one) for one in values.get("ip_adapters", ()))
        return cls(**{**values, "loras": loras, "controlnets": controlnets, "ip_adapters": ip_adapters})


def _numbered(text: str) -> tuple[str] | tuple[str, float]:
    """A path and, where it ends in a colon and a number, that number."""
    path, _, number = text.rpartition(":")
    try:
        return (path, float(number)) if path else (text,)
    except ValueError:
        # If there is a colon, it belongs to the path.
        return (text,)


def located(name: str, folder: Path) -> str:
    """A path resolved against ``folder`` if it exists there, otherwise the name itself, which is a hub id."""
    place = given_place(folder / at_home(name))
    return str(place) if place.exists() else name
