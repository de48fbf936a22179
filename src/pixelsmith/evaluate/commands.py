"""``pixelsmith evaluate`` and ``pixelsmith figures``: parse, call, print."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from pixelsmith.config.compute import Compute, DeviceName, DtypeName
from pixelsmith.config.method import PRESETS
from pixelsmith.config.request import EMBEDDED, Request
from pixelsmith.errors import PictureError, RequestError
from pixelsmith.system.terminal import PLACE, say

PROMPT = "watercolor map of islands in a turquoise sea"


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options for the model, its device and the output folder."""
    options = [
        click.option("--output", "-o", required=True, type=PLACE, help="A folder for all results."),
        click.option("--model", default=EMBEDDED, show_default=True, help="A diffusers folder or a hub id."),
        click.option("--device", type=click.Choice(get_args(DeviceName)), default="auto", show_default=True),
        click.option("--dtype", type=click.Choice(get_args(DtypeName)), default="auto", show_default=True),
        click.option("--batch-size", type=int, help="Patches per call of the network.  [default: by device]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def folder_at(path: Path) -> Path:
    """A folder to write into. Raises ``PictureError``."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"{path}: it cannot be made ({error.strerror})") from error
    return path


@click.command("evaluate")
@click.argument("protocol")
@model_options
@click.option(
    "--tiny",
    is_flag=True,
    help="A dry run: two pictures per variant at 1.5 times the native sides, in 4 steps, with little guidance.",
)
@click.option("--prompts", type=int, help="Only the first N of the prompts.  [default: all]", metavar="N")
@click.option("--factor", "factors", type=float, multiple=True, help="Sizes, as multiples of the model's native sides.")
@click.option("--only", multiple=True, help="Only this variant or series, and the reference; may be repeated.")
@click.option("--truth", type=PLACE, help="Real pictures: a folder or a .npy file.")
@click.option(
    "--features", help="judge, a folder, inception:FILE, or a .pt2 file.  [default: judge, for the embedded model]"
)
@click.option("--clip", help="A CLIP model: a folder in the format of transformers, or a hub id.")
@click.option("--latent-upscaler", help="For table3: its folder in the diffusers format, or a hub id.")
@click.option("--super-resolution", help="For table3: a .pt2 file that upscales pictures (1, 3, s, s).")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing.")
def evaluate_command(
    protocol: str, output: Path, tiny: bool, truth: Path | None, features: str | None, quiet: bool, **options: Any
) -> None:
    """Run PROTOCOL (table1, table2, table3, sweep, held or a TOML file): pictures, metrics, tables.

    Pictures that are in OUTPUT already are kept, so the same command continues after an interruption.
    """
    from pixelsmith.evaluate.clip import ClipScore
    from pixelsmith.evaluate.experiment import Setting, run
    from pixelsmith.evaluate.features import JUDGE, load_features
    from pixelsmith.evaluate.metrics import Tools
    from pixelsmith.evaluate.protocol import load_protocol
    from pixelsmith.evaluate.report import write_report
    from pixelsmith.evaluate.truth import load_truth
    from pixelsmith.evaluate.upscalers import UpscalerWeights
    from pixelsmith.families import find_model, read_facts

    loaded = load_protocol(protocol).part(options["prompts"], options["factors"], options["only"])
    loaded = loaded.tiny() if tiny else loaded
    native = read_facts(find_model(options["model"], weights=False), options["model"]).native_size
    # The judge was trained for the embedded model's subjects only.
    features = features or (JUDGE if options["model"] == EMBEDDED else None)
    network = None if features is None else load_features(features)
    clip = None if options["clip"] is None else ClipScore(options["clip"])

    def tools(factor: float) -> Tools:
        real = None if truth is None else load_truth(truth, min(native.width, native.height), factor)
        return Tools(network, real, clip)

    compute = compute_of(options)
    weights = UpscalerWeights(options["latent_upscaler"], options["super_resolution"], options["model"], compute)
    setting = Setting(options["model"], compute, tools, weights)
    given = {"model": options["model"], "features": features, "truth": truth, "CLIP": options["clip"]}
    context = {"protocol": loaded.name, **{name: str(value or "none") for name, value in given.items()}}
    tell = (lambda line: None) if quiet else say
    run(loaded, folder_at(output), setting, tell, lambda outcome: write_report(outcome, output, context))
    if not quiet:
        say(f"{output / 'table.md'}: done")


FIGURE_NAMES = ("sweep", "order", "chess", "steps", "ladder", "compare")


@click.command("figures")
@click.argument("figure", type=click.Choice(FIGURE_NAMES))
@model_options
@click.option("--prompt", default=PROMPT, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--factor", type=float, default=4.0, show_default=True, help="The size, as a multiple of native sides.")
@click.option("--preset", type=click.Choice(list(PRESETS)), default="default", show_default=True)
@click.option("--steps", type=int, help="Denoising steps of the base and of each stage.")
def figures_command(
    figure: str, output: Path, prompt: str, seed: int, factor: float, preset: str, steps: int | None, **options: str
) -> None:
    """Draw FIGURE into OUTPUT. The pictures that it needs are generated and kept there.

    sweep: positions of the Slider; order: the patches of a step, with an animation; chess: the mask; steps: one stage
    and two stages; ladder: from the whole picture to one patch; compare: the base and the result.
    """
    from pixelsmith.evaluate.figures import FIGURES, Scene
    from pixelsmith.evaluate.protocol import MOST_FACTOR
    from pixelsmith.families import find_model, read_facts

    if not 1 <= factor <= MOST_FACTOR:
        raise RequestError(f"factor: expected a number in 1..{MOST_FACTOR}, got {factor}")
    native = read_facts(find_model(options["model"], weights=False), options["model"]).native_size
    request = Request(
        prompt,
        native.scaled(factor),
        seed=seed,
        model=options["model"],
        method=PRESETS[preset],
        compute=compute_of(options),
    )
    if steps is not None:
        request = request.with_method(steps=steps)
    for path in FIGURES[figure](Scene(request, folder_at(output))):
        say(path)


def compute_of(options: dict) -> Compute:
    """The ``Compute`` settings from the options of the command line."""
    return Compute(options["device"], options["dtype"], options["batch_size"])
