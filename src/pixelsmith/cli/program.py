"""The command line: parse, call, print. Exit codes: 0 done, 1 failed, 2 wrong input, 130 and 143 interrupted."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any, get_args

import click
from click.shell_completion import get_completion_class

from pixelsmith import LoadedModel, __version__, generate, plan, resume
from pixelsmith.cli.batch import RANDOM
from pixelsmith.cli.batch_command import batch_command
from pixelsmith.cli.helps import FIRST_STEPS, Commands
from pixelsmith.cli.options import (
    PART_OPTIONS,
    WORKER_OPTIONS,
    listed,
    make_request,
    numbers_in,
    options_of,
    parts_of,
    request_options,
    with_options,
    workers_of,
)
from pixelsmith.cli.progress import ProgressBar
from pixelsmith.cli.redo_command import redo_command
from pixelsmith.cli.running import is_given, observed, overwrite_option, run_options
from pixelsmith.cli.studio_command import studio_command
from pixelsmith.cli.tables import examination_table, families_table, plan_table, settings_table, values_table
from pixelsmith.config.compute import DeviceName, Placement
from pixelsmith.config.request import Request
from pixelsmith.config.settings import Group
from pixelsmith.errors import InputError, PixelsmithError, reason_of
from pixelsmith.evaluate.commands import evaluate_command, figures_command
from pixelsmith.events import silent
from pixelsmith.geometry import Size
from pixelsmith.pixels.files import check_output, write_into
from pixelsmith.pixels.formats import FORMATS
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.run.directory import RunDirectory
from pixelsmith.run.resuming import located_request
from pixelsmith.system.ending import Terminated, end_orderly
from pixelsmith.system.interrupt import interruptible
from pixelsmith.system.terminal import PLACE, say

_TRACEBACK = "PIXELSMITH_TRACEBACK"
"""The environment variable that turns on tracebacks of unexpected errors."""


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error, never a traceback."""
    end_orderly()
    _print_anything()
    try:
        with interruptible():
            code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        cause = error.__cause__ or error
        said, code = (str(cause), cause.code) if isinstance(cause, Terminated) else ("interrupted", 130)
        code = _complain("; ".join([said, *_notes(cause)]), code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        code = 2
    except click.ClickException as error:
        code = _complain(_with_advice(error), 2)
    except BrokenPipeError:
        # The reader has closed the pipe; without this, Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except Exception as error:
        if not isinstance(error, PixelsmithError) and os.environ.get(_TRACEBACK):
            raise
        code = _complain(_said(error), 2 if isinstance(error, InputError) else 1)
    sys.exit(code if isinstance(code, int) else 0)


def _print_anything() -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _said(error: Exception) -> str:
    """The message of an error and how to continue; for unexpected errors also how to get a traceback."""
    if isinstance(error, PixelsmithError | MemoryError | OSError):
        return "; ".join([str(error) or type(error).__name__, *_notes(error)])
    return "; ".join([reason_of(error), *_notes(error), f"{_TRACEBACK}=1 shows where"])


def _notes(error: BaseException) -> list[str]:
    """The notes of an error, which say how to continue."""
    return getattr(error, "__notes__", [])


def _with_advice(error: click.ClickException) -> str:
    """The message of a wrong argument, with advice if a prompt lacks quotes."""
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context and any(parameter.name == "prompt" for parameter in context.command.params) and "extra arg" in message:
        return f"{message} A prompt of several words needs quotes around it."
    return message


def _complain(message: str, code: int) -> int:
    say("pixelsmith: " + " ".join(message.split()), error=True)
    return code


SHELLS = ("bash", "zsh", "fish")


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="pixelsmith")
@click.pass_context
def cli(context: click.Context) -> None:
    """Turn a sentence into a picture of any size."""
    if context.invoked_subcommand is None:
        click.echo(FIRST_STEPS)


@cli.command(
    "generate",
    examples={
        "A first picture": 'pixelsmith generate "watercolor map of islands" --preset fast -o islands.png',
        "Your own picture, enlarged": 'pixelsmith generate "a coast" --from-image coast.jpg --size 60MP -o big.tif',
    },
)
@request_options
@partial(with_options, options=WORKER_OPTIONS)
@listed(Group.FILE, "--output", "-o", common=True, required=True, type=PLACE, help=f"A {', '.join(FORMATS)} file.")
@listed(Group.FILE, "--run-dir", type=PLACE, help="Keep all work here.  [default: OUTPUT.run if large]")
@overwrite_option
@run_options
def generate_command(
    output: Path, run_dir: Path | None, overwrite: bool, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Make a picture of PROMPT."""
    request, workers = make_request(options), workers_of(options)
    if options["seed"] == RANDOM and not quiet:
        say(f"seed {request.seed}", error=as_json)
    observed(lambda observer: generate(request, output, observer, run_dir, overwrite, workers=workers), as_json, quiet)


cli.add_command(batch_command)


@cli.command("resume")
@click.argument("run_dir", type=PLACE)
@click.option(
    "--output",
    "-o",
    type=PLACE,
    help="Where the picture goes; required if the run's own output lies outside of RUN_DIR's folder.",
)
@click.option(
    "--allow-pickle", is_flag=True, help="Read weights from pickles, as the run began; they can run any code."
)
@partial(with_options, options=options_of(Placement))
@partial(with_options, options=WORKER_OPTIONS)
@overwrite_option
@run_options
def resume_command(
    run_dir: Path,
    output: Path | None,
    allow_pickle: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **placement: Any,
) -> None:
    """Continue the interrupted run in RUN_DIR."""
    placed = Placement(workers=workers_of(placement), **placement)
    observed(lambda observer: resume(run_dir, observer, output, allow_pickle, overwrite, placed), as_json, quiet)


@cli.command("preview")
@request_options
@click.option("--at", default="0.5,0.5", show_default=True, help="The centre of the window: X,Y as shares of the size.")
@click.option("--side", type=int, help="The window's side in pixels.  [default: the model's native size]")
@click.option("--output", "-o", required=True, type=PLACE, help="A picture file of the window at all positions.")
@overwrite_option
@click.option("--quiet", "-q", is_flag=True, help="Print nothing.")
def preview_command(at: str, side: int | None, output: Path, overwrite: bool, quiet: bool, **options: Any) -> None:
    """Make the final pixels of one window of the picture of PROMPT, without the rest of the picture.

    --slider 0.2,0.5,0.8 makes it at several positions, each for all stages, side by side. In place of PROMPT a run
    directory can be given: its finished stages are taken, and all options but --slider are its own.
    """
    positions = numbers_in(options["slider"], float, "slider: expected positions such as 0.2,0.5,0.8") or ()
    place = numbers_in(at, float, "at: expected X,Y such as 0.3,0.6")
    request, run_dir = _previewed(options)
    check_output(output, Size(1, 1), {})
    with Output(output, overwrite) as there, LoadedModel.of(request) as model, ProgressBar() as bar:
        found = model.preview(request, place, positions, side, silent if quiet else bar, run_dir)
        write_into(there, found.picture, found.settings)
    if not quiet:
        say(f"{output}: {found.settings['preview']['window']}, Slider {', '.join(f'{at:g}' for at in found.sliders)}")


def _previewed(options: dict[str, Any]) -> tuple[Request, Path | None]:
    """The request of a preview, and its run directory, if it has one."""
    run_dir = Path(options["prompt"])
    if not RunDirectory(run_dir).begun:
        return make_request(options | {"slider": None}), None
    context = click.get_current_context()
    given = [name for name in options if is_given(context, name)]
    if others := [name for name in given if name not in ("prompt", "slider", "allow_pickle")]:
        raise click.BadParameter(f"{others[0].replace('_', '-')}: it is that of the run in {run_dir}; leave it out")
    record = RunDirectory(run_dir).read()
    if record.allows_pickle and not options["allow_pickle"]:
        raise click.BadParameter(f"{run_dir}: its model is read from pickles, which can run any code; --allow-pickle")
    return located_request(record), run_dir


@cli.command("plan")
@request_options
@partial(with_options, options=WORKER_OPTIONS)
@click.option("--calibrate", is_flag=True, help="Load the model and measure it for some seconds, to know the time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def plan_command(calibrate: bool, as_json: bool, **options: Any) -> None:
    """Estimate what PROMPT would take: stages, patches, model calls, memory, disk, time. Makes nothing.

    The time is known once the model has run on this machine.
    """
    the_plan = plan(make_request(options), calibrate, workers_of(options))
    click.echo(json.dumps(the_plan.to_dict()) if as_json else plan_table(the_plan))


@cli.command("info")
@click.argument("picture", type=PLACE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info_command(picture: Path, as_json: bool) -> None:
    """Show the settings stored in PICTURE: prompt, seed, model and all others."""
    settings = read_settings(picture)
    click.echo(json.dumps(settings) if as_json else settings_table(settings))


@cli.group("models", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def models_group(context: click.Context, as_json: bool) -> None:
    """List the families of models that can be used."""
    if context.invoked_subcommand is None:
        from pixelsmith.families.catalogue import list_families

        found = list_families()
        click.echo(json.dumps({"families": found}) if as_json else families_table(found))


@models_group.command("inspect")
@click.argument("model")
@partial(with_options, options=PART_OPTIONS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect_command(model: str, as_json: bool, **options: Any) -> None:
    """Show how MODEL is recognised and the settings it recommends. Loads nothing."""
    from pixelsmith.families.catalogue import inspect_model

    found = inspect_model(model, parts_of(options))
    click.echo(json.dumps(found) if as_json else values_table(found))


@cli.command("doctor")
@click.option("--self-test/--no-self-test", default=True, help="Make a small picture: 20 seconds at most.")
@click.option(
    "--device",
    type=click.Choice(get_args(DeviceName)),
    default="auto",
    show_default=True,
    help="Where the self-test runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor_command(self_test: bool, device: DeviceName, as_json: bool) -> None:
    """Look at this machine: devices, versions, optional parts, disk, a self-test; for bug reports.

    Exit code 1 if the self-test fails.
    """
    from pixelsmith.doctor import examine

    found = examine(self_test, device)
    click.echo(json.dumps(found.to_dict()) if as_json else examination_table(found.to_dict()))
    if found.self_test is not None and not found.self_test.passed:
        raise click.exceptions.Exit(1)


@cli.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script that completes commands and options in SHELL.

    For bash, add to ~/.bashrc the line: eval "$(pixelsmith completion bash)"
    """
    kind = get_completion_class(shell)
    if kind is not None:
        click.echo(kind(cli, {}, "pixelsmith", "_PIXELSMITH_COMPLETE").source())


@cli.command("view")
@click.argument("path", type=PLACE)
@click.option(
    "--before",
    type=PLACE,
    help="A picture file to compare with, such as the one given to --from-image.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines connect.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--browser/--no-browser", default=True, help="Open the page.")
def view_command(path: Path, before: Path | None, host: str, port: int, browser: bool) -> None:
    """Zoom into PATH like a map: a picture file, or a run directory, also of a run in progress."""
    from pixelsmith.viewer import PictureServer

    with PictureServer(path, host, port, before) as server:
        say(f"{path} is at {server.whereabouts} (Ctrl-C ends it)")
        if browser:
            click.launch(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


cli.add_command(redo_command)
cli.add_command(studio_command)
cli.add_command(evaluate_command)
cli.add_command(figures_command)
