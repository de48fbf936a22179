"""Options that describe a picture: the same for every command that takes a request, and the request that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args

import click

from pixelsmith.cli.batch import RANDOM, random_seed
from pixelsmith.config.parts import Lora, Parts, Quantization, SchedulerName, TimestepSpacing
from pixelsmith.config.recommended import PERTURBATIONS, CaptionsName, GuidanceName, MergeName, Perturbation, Sampler
from pixelsmith.config.request import (
    DEPTHS,
    EMBEDDED,
    PRESETS,
    Compute,
    CoverageName,
    DeviceName,
    DtypeName,
    MemoryMode,
    Request,
    Upsampling,
)
from pixelsmith.config.sizes import asked_size
from pixelsmith.config.strategies import StrategyName
from pixelsmith.geometry import Size
from pixelsmith.system.places import picture_path

DEFAULT_SIZE = "2048x2048"


PART_OPTIONS = (
    click.option("--model-config", help="Folder or hub id with the configuration of a single file."),
    click.option("--variant", help="Of the model's weight files, such as fp16."),
    click.option("--vae", help="Another autoencoder, full or tiny: a folder, a .safetensors file, or a hub id."),
    click.option("--network", help="Another U-Net or transformer: the same, or a .gguf file."),
    click.option("--quantize", type=click.Choice(get_args(Quantization)), help="Make the network smaller when loaded."),
    click.option("--lora", "loras", multiple=True, metavar="PATH[:WEIGHT]", help="Can be given several times."),
    click.option(
        "--textual-inversion", "textual_inversions", multiple=True, metavar="PATH", help="Its name is its token."
    ),
    click.option(
        "--few-steps/--no-few-steps",
        default=None,
        help="Add the model's own LoRA for few steps.  [default: with --preset fast, if it has one]",
    ),
    click.option("--scheduler", type=click.Choice(get_args(SchedulerName)), help="In the place of the model's own."),
    click.option("--timestep-spacing", type=click.Choice(get_args(TimestepSpacing)), help="Where its steps lie."),
    click.option("--allow-pickle", is_flag=True, help="Read weights from pickles; they can run any code."),
)
"""What is loaded: the same for every command that looks at a model."""


_METHOD_CLICKS = (
    click.option(
        "--preset",
        type=click.Choice(list(PRESETS)),
        default="default",
        show_default=True,
        help="fast: a third of the time, nearly as good; paper: the method as published.",
    ),
    click.option("--steps", type=int, help="Denoising steps of the base and of each stage."),
    click.option("--stage-steps", type=int, help="Denoising steps of each stage.  [default: --steps]"),
    click.option("--start", type=float, help="0..1: share of the noise schedule that stages go through."),
    click.option("--sampler", type=click.Choice(get_args(Sampler)), help="The rule of a step."),
    click.option(
        "--slider",
        help="0..1: at 0 all is invented, at 1 all that the smaller picture shows is kept. A,B: of the last stages.  "
        "[default: 1 with --from-image, else as the model recommends]",
    ),
    click.option("--slider-fade", type=float, help="0..1: share of steps over which it fades out.  [default: 0]"),
    click.option("--guidance", type=click.Choice(get_args(GuidanceName)), help="How the prompt is put to effect."),
    click.option("--guidance-scale", type=float, help="How strongly the prompt pulls; 1 is off."),
    click.option("--stage-guidance-scale", type=float, help="The same for the stages.  [default: as the base]"),
    click.option("--guidance-rescale", type=float, help="0..1: against over-saturation."),
    click.option("--epsilon-scaling", type=float, help="0.5..2: a little above 1 for more detail; 1 is off."),
    click.option("--stage-epsilon-scaling", type=float, help="The same for the stages.  [default: as the base]"),
    click.option(
        "--texture",
        type=float,
        help="0..1: share of what the model's texture network draws; 0 is "
        "off.  [default: 1, or as the model recommends]",
    ),
    click.option("--guidance-interval", help="START,END in 0..1: where guidance is on."),
    click.option(
        "--perturbation", type=click.Choice(list(PERTURBATIONS)), help="Also guide away from a worse network."
    ),
    click.option("--perturbation-scale", type=float, help="How strongly.  [default: pag 3, slg 2.8]"),
    click.option("--perturbation-interval", help="Where it is on.  [default: pag 0,1, slg 0.01,0.2]"),
    click.option("--perturbed-layers", help="Numbers of blocks, such as 7,8,9.  [default: in the middle]"),
    click.option("--slider-map", help="Where it holds: auto, even, or a grey picture (white holds).  [default: auto]"),
    click.option("--slider-steps", type=float, help="0..1: share of steps in which structure is held.  [default: 1]"),
    click.option(
        "--merge",
        type=click.Choice(get_args(MergeName)),
        help="How the picture below guides: hold, or phase (paper).  [default: hold]",
    ),
    click.option("--chess-mask/--no-chess-mask", default=None),
    click.option("--border", type=int, help="Latents over which patches are averaged; 0 is off."),
    click.option("--coverage", type=click.Choice(get_args(CoverageName)), help="Where patches lie."),
    click.option("--upsampling", type=click.Choice(get_args(Upsampling))),
    click.option(
        "--captions",
        help="Condition each patch on what the picture below shows there: off, auto (by the model's own captioner), or "
        "the folder or hub id of a captioner.  [default: off, or as the model recommends]",
    ),
    click.option("--strategy", type=click.Choice(get_args(StrategyName)), help="Another method, to compare."),
)
"""How it is denoised."""


def with_options(command: Callable[..., None], options: Sequence[Callable[..., Any]]) -> Callable[..., None]:
    """A command with options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


class Seed(click.ParamType):
    """A number, or ``random``."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == RANDOM else click.INT.convert(value, param, ctx)


_PICTURE_CLICKS = (
    click.option(
        "--size",
        help="Pixels (2048x1024, 2048), a print (60x90cm@300dpi, 24x36in@150dpi) or an area (40MP, in the shape "
        f"of what it starts from).  [default: the last of --cascade, or {DEFAULT_SIZE}]",
    ),
    click.option(
        "--dpi",
        type=float,
        help="Dots per inch that the file says.  [default: those of --size, of the picture to start from, or 300]",
    ),
    click.option("--cascade", help="Sizes of the stages, such as 512x512,2048x2048."),
    click.option("--from-image", help="Start from this picture in place of a generated one."),
    click.option(
        "--depth",
        type=click.Choice(list(map(str, DEPTHS))),
        default="8",
        show_default=True,
        help="Bits a channel of the file.",
    ),
    click.option("--dither", is_flag=True, help="Dither 8 bits, so that smooth gradients have no steps."),
    click.option(
        "--strip",
        is_flag=True,
        help="Leave out the EXIF, IPTC, XMP, resolution and place on earth of --from-image.",
    ),
    click.option("--mask", help="Of --from-image a grey picture: white is refined, black stays as it is, enlarged."),
    click.option("--mask-feather", type=int, default=16, show_default=True, help="Pixels that its edges are wide."),
    click.option(
        "--background",
        metavar="COLOUR",
        help="Lay the transparency of --from-image over white, #fff8e0, ...  [default: it is kept]",
    ),
    click.option("--negative-prompt", default="", help="What the picture should not show."),
    click.option(
        "--prompt-weighting", is_flag=True, help="Read (word)1.3 and word++ as weights, and prompts of any length."
    ),
    click.option("--seed", type=Seed(), default=0, show_default=True, help="Another seed, another picture; or random."),
    click.option(
        "--model",
        default=EMBEDDED,
        show_default=True,
        help="A diffusers folder, a .safetensors file, or a hub id (owner/name, owner/name@revision).",
    ),
)
"""What is made, of what, and by which model."""


_COMPUTE_CLICKS = (
    click.option("--batch-size", type=int, help="Patches per call of the network.  [default: by device]"),
    click.option(
        "--memory",
        type=click.Choice(get_args(MemoryMode)),
        default="all",
        show_default=True,
        help="What of the model is on the device at a time.",
    ),
    click.option("--compile", is_flag=True, help="Compile the network, and an autoencoder of residual blocks."),
    click.option("--channels-last", is_flag=True, help="Another order of values in memory."),
    click.option("--device", type=click.Choice(get_args(DeviceName)), default="auto", show_default=True),
    click.option("--dtype", type=click.Choice(get_args(DtypeName)), default="auto", show_default=True),
)
"""What computes it."""


def request_options(command: Callable[..., None]) -> Callable[..., None]:
    """What describes a picture: the same options for every command that takes a request."""
    return click.argument("prompt")(options_without_prompt(command))


def options_without_prompt(command: Callable[..., None]) -> Callable[..., None]:
    """All of it but the prompt."""
    return with_options(command, (*_PICTURE_CLICKS, *PART_OPTIONS, *_METHOD_CLICKS, *_COMPUTE_CLICKS))


_METHOD_OPTIONS = (
    "steps", "stage_steps", "start", "sampler", "slider", "slider_fade", "guidance", "guidance_scale",
    "stage_guidance_scale", "guidance_rescale", "epsilon_scaling", "guidance_interval", "merge", "chess_mask",
    "stage_epsilon_scaling", "texture", "slider_map", "slider_steps",
    "border", "coverage", "upsampling", "strategy",
)  # fmt: skip


def make_request(options: dict[str, Any]) -> Request:
    """A request from the options of the command line. Raises ``RequestError``."""
    cascade = tuple(Size.parse(size) for size in (options["cascade"] or "").split(",") if size.strip())
    asked = options["size"] or (str(cascade[-1]) if cascade else DEFAULT_SIZE)
    size, dpi = asked_size(asked, options["dpi"], lambda: _shape(options, cascade))
    chosen = {name: options[name] for name in _METHOD_OPTIONS} | {
        "slider": numbers_in(
            options["slider"], float, "slider: expected a share, or one for each stage such as 0.4,0.6"
        ),
        "guidance_interval": _interval("guidance interval", options["guidance_interval"]),
        "perturbation": _perturbation(options),
        "captions": _captions(options["captions"])[0],
    }
    changes = {name: value for name, value in chosen.items() if value is not None}
    return Request(
        prompt=options["prompt"],
        size=size,
        negative_prompt=options["negative_prompt"],
        prompt_weighting=options["prompt_weighting"],
        seed=random_seed() if options["seed"] == RANDOM else options["seed"],
        model=options["model"],
        from_image=options["from_image"],
        cascade=cascade,
        dpi=dpi,
        strip=options["strip"],
        background=options["background"],
        mask=options["mask"],
        mask_feather=options["mask_feather"],
        depth=int(options["depth"]),
        dither=options["dither"],
        method=PRESETS[options["preset"]],
        compute=Compute(**{item.name: options[item.name] for item in fields(Compute)}),
        parts=parts_of(options),
    ).with_method(**changes)


def _shape(options: dict[str, Any], cascade: Sequence[Size]) -> Size:
    """What an area has the proportions of: the last stage, the picture to start from, or the model's own size."""
    if cascade:
        return cascade[-1]
    if options["from_image"] is not None:
        from pixelsmith.pixels.reading import picture_size

        return picture_size(Path(picture_path("from image", options["from_image"])))
    from pixelsmith.families.catalogue import inspect_model

    return Size.parse(inspect_model(options["model"], parts_of(options))["native_size"])


def parts_of(options: dict[str, Any]) -> Parts:
    """What is loaded besides or instead of the model's own files. Raises ``click.BadParameter``."""
    few_steps = options["few_steps"]
    if few_steps is None and options.get("preset") != "fast":
        few_steps = False
    return Parts(
        variant=options["variant"],
        config=options["model_config"],
        vae=options["vae"],
        network=options["network"],
        quantize=options["quantize"],
        loras=tuple(Lora.parse(text) for text in options["loras"]),
        textual_inversions=options["textual_inversions"],
        few_steps=few_steps,
        scheduler=options["scheduler"],
        timestep_spacing=options["timestep_spacing"],
        allow_pickle=options["allow_pickle"],
        captioner=_captions(options.get("captions"))[1],
    )


def _captions(asked: str | None) -> tuple[Any, str | None]:
    """Whether there are captions, and whose, where a captioner is named."""
    return (asked, None) if asked in (None, *get_args(CaptionsName)) else ("auto", asked)


def _perturbation(options: dict[str, Any]) -> Perturbation | None:
    """The one that is named, with what is said of it."""
    name = options["perturbation"]
    values = {
        "scale": options["perturbation_scale"],
        "interval": _interval("perturbation interval", options["perturbation_interval"]),
        "layers": numbers_in(options["perturbed_layers"], int, "perturbed layers: expected numbers such as 7,8,9"),
    }
    said = {key: value for key, value in values.items() if value is not None}
    if said and name is None:
        raise click.BadParameter(f"perturbation: none is named, but its {' and '.join(said)}; give --perturbation")
    return None if name is None else replace(PERTURBATIONS[name], **said)


def _interval(name: str, text: str | None) -> Any:
    return numbers_in(text, float, f"{name}: expected START,END such as 0.1,0.8")


def numbers_in(text: str | None, kind: Callable[[str], float], expected: str) -> Any:
    """The numbers between commas, ``None`` of nothing. Raises ``click.BadParameter`` that says what was expected."""
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{expected}, got {text!r}") from error
