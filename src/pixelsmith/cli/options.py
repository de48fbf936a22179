"""The options of a request, which are the same for all commands with one, and creating the request from them.

Most follow from the fields that they set (``pixelsmith.config.settings``); those that need parsing are defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click

from pixelsmith.cli.batch import RANDOM, random_seed
from pixelsmith.cli.helps import GroupedOption
from pixelsmith.config.compute import Compute
from pixelsmith.config.method import PRESETS, Method
from pixelsmith.config.parts import ControlNet, IPAdapter, Lora, Parts
from pixelsmith.config.recommended import PERTURBATIONS, CaptionsName, Perturbation
from pixelsmith.config.regions import Region, read_regions
from pixelsmith.config.request import Request
from pixelsmith.config.settings import Group, Setting, settings_of
from pixelsmith.config.sizes import asked_size
from pixelsmith.config.workers import LOCAL, Workers
from pixelsmith.geometry import Size
from pixelsmith.system.places import picture_path

DEFAULT_SIZE = "2048x2048"


def options_of(owner: type, left_open: bool = False) -> list[Callable[..., Any]]:
    """An option for each setting of a class; ``left_open``: omitted options are ``None`` instead of the default."""
    return [_option_of(setting, left_open or setting.optional) for setting in settings_of(owner)]


def _option_of(setting: Setting, left_open: bool) -> Callable[..., Any]:
    flag, default = bool in setting.kinds, None if left_open or setting.many else setting.default
    both = f"{setting.option}/--no-{setting.option.removeprefix('--')}" if flag and left_open else setting.option
    return listed(
        setting.group,
        both,
        setting.parameter,
        type=None if flag else _type_of(setting),
        is_flag=flag,
        default=str(default) if setting.choices and default is not None else default,
        show_default=default not in (None, "", False),
        multiple=setting.many,
        metavar=setting.metavar,
        help=setting.help,
        common=setting.common,
    )


def _type_of(setting: Setting) -> Any:
    if setting.choices:
        return click.Choice(setting.choices)
    (kind,) = setting.kinds if len(setting.kinds) == 1 else (str,)
    return kind if kind in (int, float) else str


def listed(group: Group, *names: str, common: bool = False, **said: Any) -> Callable[..., Any]:
    """An option that help lists under a heading; ``said``: the arguments of ``click.option``."""
    return click.option(*names, cls=GroupedOption, group=group, common=common, **said)


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


PART_OPTIONS = options_of(Parts)
"""The options of parts, the same for every command with a model."""

_PICTURE_OPTIONS = (
    listed(
        Group.PICTURE,
        "--size",
        common=True,
        help="Pixels (2048x1024; 2048 is a square), a print (60x90cm@300dpi, 24x36in@150dpi) or an area (40MP, in the "
        f"shape of what it starts from).  [default: the last of --cascade, or {DEFAULT_SIZE}]",
    ),
    listed(Group.QUALITY, "--cascade", help="Sizes of the stages, such as 512x512,2048x2048."),
    listed(
        Group.PICTURE,
        "--seed",
        common=True,
        type=Seed(),
        default=0,
        show_default=True,
        help="Another seed gives another picture; random picks one and prints it.",
    ),
    *options_of(Request),
    listed(
        Group.PICTURE,
        "--region",
        multiple=True,
        metavar="X,Y,W,H:PROMPT",
        help="A part with its own prompt, in pixels of the result or percent: '0,0,50%,100%: a forest'. Can be given "
        "several times; later regions lie over earlier ones.",
    ),
    listed(
        Group.PICTURE,
        "--regions",
        metavar="FILE",
        help="Regions from a JSON file, also with polygons, masks and negative prompts.",
    ),
)
"""The options of the picture, its source, and the model."""

_METHOD_OPTIONS = (
    listed(
        Group.QUALITY,
        "--preset",
        common=True,
        type=click.Choice(list(PRESETS)),
        default="default",
        show_default=True,
        help="How much work is done: default, fast (a third of it) or paper (ten times as much).",
    ),
    *options_of(Method, left_open=True),
    listed(
        Group.PICTURE,
        "--captions",
        help="Add a caption of the smaller picture to the prompt of each patch: off, auto (the model's captioner), or "
        "the folder or hub id of a captioner.  [default: off, or as the model recommends]",
    ),
    listed(
        Group.GUIDANCE,
        "--perturbation",
        type=click.Choice(list(PERTURBATIONS)),
        help="Also guide away from a perturbed network.",
    ),
    listed(
        Group.GUIDANCE, "--perturbation-scale", type=float, help="Scale of that guidance.  [default: pag 3, slg 2.8]"
    ),
    listed(
        Group.GUIDANCE,
        "--perturbation-interval",
        help="START,END in 0..1: where it is on.  [default: pag 0,1, slg 0.01,0.2]",
    ),
    listed(
        Group.GUIDANCE,
        "--perturbed-layers",
        help="Numbers of the perturbed blocks, such as 7,8,9.  [default: in the middle]",
    ),
)
"""The options of the method."""


WORKER_OPTIONS = (
    listed(
        Group.MACHINE,
        "--devices",
        help="Share the work among these devices, such as cuda:0,cuda:1,cpu; with --ray their kinds.",
    ),
    listed(
        Group.MACHINE,
        "--ray",
        is_flag=False,
        flag_value=LOCAL,
        metavar="[ADDRESS]",
        help="Share the work among all GPUs of a Ray cluster (auto, HOST:PORT); without an address one is started.",
    ),
)
"""The options of workers, which do not affect the picture."""


def workers_of(options: dict[str, Any]) -> Workers | None:
    """The devices that share the work, if there are several. Raises ``RequestError``."""
    return Workers.parse(options.pop("devices"), options.pop("ray"))


def request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add all options of a request, and its prompt."""
    return click.argument("prompt")(options_without_prompt(command))


def options_without_prompt(command: Callable[..., None]) -> Callable[..., None]:
    """Add all options of a request without the prompt."""
    return with_options(command, (*_PICTURE_OPTIONS, *PART_OPTIONS, *_METHOD_OPTIONS, *options_of(Compute)))


def _values(owner: type, options: dict[str, Any]) -> dict[str, Any]:
    """The values of a class's fields from their options."""
    return {setting.name: options[setting.parameter] for setting in settings_of(owner)}


def make_request(options: dict[str, Any]) -> Request:
    """A request from the options of the command line. Raises ``RequestError``."""
    cascade = tuple(Size.parse(size) for size in (options["cascade"] or "").split(",") if size.strip())
    asked = options["size"] or (str(cascade[-1]) if cascade else DEFAULT_SIZE)
    size, dpi = asked_size(asked, options["dpi"], lambda: _shape(options, cascade))
    of_method = _values(Method, options) | {
        "slider": numbers_in(
            options["slider"], float, "slider: expected a share, or one for each stage such as 0.4,0.6"
        ),
        "guidance_interval": _interval("guidance interval", options["guidance_interval"]),
        "perturbation": _perturbation(options),
        "captions": _captions(options["captions"])[0],
    }
    of_request = _values(Request, options) | {
        "prompt": options["prompt"],
        "size": size,
        "cascade": cascade,
        "dpi": dpi,
        "regions": (
            *(() if options["regions"] is None else read_regions(options["regions"])),
            *map(Region.parse, options["region"]),
        ),
        "seed": random_seed() if options["seed"] == RANDOM else options["seed"],
        "depth": int(options["depth"]),
        "method": PRESETS[options["preset"]],
        "compute": Compute(**_values(Compute, options)),
        "parts": parts_of(options),
    }
    return Request(**of_request).with_method(**{name: value for name, value in of_method.items() if value is not None})


def _shape(options: dict[str, Any], cascade: Sequence[Size]) -> Size:
    """The size with the aspect ratio for an area: the last stage's, the given picture's, or the model's native size."""
    if cascade:
        return cascade[-1]
    if options["from_image"] is not None:
        from pixelsmith.pixels.reading import picture_size

        return picture_size(Path(picture_path("from image", options["from_image"])))
    from pixelsmith.families.catalogue import inspect_model

    return Size.parse(inspect_model(options["model"], parts_of(options))["native_size"])


def parts_of(options: dict[str, Any]) -> Parts:
    """The parts that options name. Raises ``click.BadParameter``."""
    few_steps = options["few_steps"]
    if few_steps is None and options.get("preset") != "fast":
        few_steps = False
    others = {
        "loras": tuple(Lora.parse(text) for text in options["loras"]),
        "controlnets": tuple(ControlNet.parse(text) for text in options["controlnets"]),
        "ip_adapters": tuple(IPAdapter.parse(text) for text in options["ip_adapters"]),
        "few_steps": few_steps,
        "captioner": _captions(options.get("captions"))[1],
    }
    return Parts(**_values(Parts, options) | others)


def _captions(asked: str | None) -> tuple[Any, str | None]:
    """The setting of captions, and the captioner, if one is named."""
    return (asked, None) if asked in (None, *get_args(CaptionsName)) else ("auto", asked)


def _perturbation(options: dict[str, Any]) -> Perturbation | None:
    """The named perturbation, with the values of its options."""
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
    """Comma-separated numbers, or ``None``. Raises ``click.BadParameter``, whose message begins with ``expected``."""
    try:
        return None if text is None else tuple(kind(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{expected}, got {text!r}") from error
