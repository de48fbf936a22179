"""``pixelsmith redo``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pixelsmith import LoadedModel, Request
from pixelsmith.cli.batch import RANDOM, random_seed
from pixelsmith.cli.options import Seed, numbers_in
from pixelsmith.cli.progress import ProgressBar
from pixelsmith.errors import RequestError
from pixelsmith.events import silent
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import check_output, write_into
from pixelsmith.pixels.metadata import read_metadata
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.reading import picture_size
from pixelsmith.pixels.settings_inside import settings_inside
from pixelsmith.system.terminal import PLACE, say


@click.command("redo")
@click.argument("picture", type=PLACE)
@click.option("--region", metavar="X,Y,W,H", help="The rectangle to make again, in pixels of PICTURE.")
@click.option(
    "--mask", type=PLACE, help="Instead of a region, a grey picture with PICTURE's aspect ratio: white is made again."
)
@click.option("--prompt", help="Prompt of the part.  [default: that of PICTURE]")
@click.option(
    "--seed", type=Seed(), default=RANDOM, show_default=True, help="Another seed draws another version of the part."
)
@click.option("--slider", type=float, help="0..1: how much of PICTURE is kept there.  [default: as PICTURE was made]")
@click.option("--output", "-o", type=PLACE, help="[default: PICTURE's name with -redone]")
@click.option(
    "--allow-pickle", is_flag=True, help="Read weights from pickles, as PICTURE was made; they can run any code."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing.")
def redo_command(
    picture: Path,
    region: str | None,
    mask: Path | None,
    prompt: str | None,
    seed: int | str,
    slider: float | None,
    output: Path | None,
    allow_pickle: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Make part of PICTURE again; everything outside it stays unchanged.

    The model and the method are those stored in PICTURE.
    """
    numbers = numbers_in(region, int, "region: expected X,Y,W,H such as 100,200,512,512")
    if numbers is not None and len(numbers) != 4:
        raise click.BadParameter(f"region: expected X,Y,W,H such as 100,200,512,512, got {region!r}")
    window = None if numbers is None else Window(numbers[1], numbers[0], numbers[3], numbers[2])
    request = _request_of(picture, prompt, allow_pickle, slider)
    request = replace(request, seed=random_seed() if seed == RANDOM else int(seed))
    target = output or picture.with_stem(f"{picture.stem}-redone")
    about = read_metadata(picture)
    check_output(target, request.size, settings_inside(picture) or {}, about)
    with Output(target, overwrite) as there, LoadedModel.of(request) as model, ProgressBar() as bar:
        found = model.redo(request, picture, window, mask, silent if quiet else bar)
        write_into(there, found.picture, found.settings, about=about)
    if not quiet:
        say(f"{target}: {found.settings['redone'][-1]['window']}, seed {request.seed}")


def _request_of(picture: Path, prompt: str | None, allow_pickle: bool, slider: float | None = None) -> Request:
    """The request stored in a picture, with what is given of prompt and Slider; for other pictures one of its size."""
    size, settings = picture_size(picture), settings_inside(picture)
    if settings is None:
        if prompt is None:
            raise RequestError(f"{picture}: it does not say what it was made of; give its place a --prompt")
        request = Request(prompt, size)
    else:
        request = replace(Request.from_dict(settings["request"]), size=size, from_image=None, mask=None)
        if request.parts.allow_pickle and not allow_pickle:
            raise RequestError(
                f"{picture}: its model is read from pickles, which can run any code; --allow-pickle loads them from a "
                "source that you trust"
            )
        if prompt is not None:
            # Prompts of regions would win over the new one.
            request = replace(request, prompt=prompt, regions=())
    if slider is None:
        return request
    request = request.with_method(slider=slider)
    # A painted map would replace the Slider.
    return request.with_method(slider_map="auto") if request.method.painted_map else request
