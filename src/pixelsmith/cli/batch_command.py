"""``pixelsmith batch``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from pixelsmith import LoadedModel
from pixelsmith.api.functions import settings_when_made
from pixelsmith.cli.batch import Done, Known, Row, Task, rows_of, run_batch, tasks_of
from pixelsmith.cli.helps import Command
from pixelsmith.cli.options import WORKER_OPTIONS, make_request, options_without_prompt, with_options, workers_of
from pixelsmith.cli.running import is_given, observed, overwrite_option, run_options
from pixelsmith.cli.sheet import check_sheet, write_sheet
from pixelsmith.config.request import Request
from pixelsmith.errors import PixelsmithError, RequestError
from pixelsmith.events import Observer
from pixelsmith.pixels.settings_inside import settings_inside
from pixelsmith.system.terminal import PLACE, say


@click.command("picture", add_help_option=False)
@click.option("--prompt")
@click.option("--output")
@options_without_prompt
def _picture(**options: Any) -> None:
    """A row of a batch, parsed like a command line."""


@click.command("batch", cls=Command)
@click.argument("file", required=False, type=PLACE)
@click.option("--prompt", help="For rows without a prompt.")
@options_without_prompt
@click.option("--seeds", help="Make each picture with several seeds, such as 0-9,20.")
@click.option("--output", "-o", help="A name template, such as out/{index}-{name}-{seed}.png; rows may have their own.")
@click.option("--sheet", type=PLACE, help="Also a contact sheet: a .png or .jpg file.")
@click.option("--dry-run", is_flag=True, help="Only list what would be made.")
@partial(with_options, options=WORKER_OPTIONS)
@overwrite_option
@run_options
@click.pass_context
def batch_command(
    context: click.Context,
    /,
    file: Path | None,
    seeds: str | None,
    sheet: Path | None,
    dry_run: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make many pictures: a row of FILE each (CSV, JSON lines, TOML), for each seed, for each file of a folder.

    Columns are named after the options of generate, with prompt and output; options given here are defaults for rows.
    --from-image may be a folder. Running the same command again continues where it stopped.
    """
    workers, given = workers_of(options), {**options, "seeds": seeds}
    asked = {name: value for name, value in given.items() if is_given(context, name)}
    tasks = tasks_of(None if file is None else rows_of(file), asked, _read_row, sheet)
    if sheet is not None:
        check_sheet(sheet, len(tasks), overwrite)
    if dry_run:
        for task in tasks:
            say(f"{task.number}  {task.output}  {task.request.size}  seed {task.request.seed}")
        return

    model = LoadedModel.of(tasks[0].request, workers=workers)

    def make(task: Task, run_dir: Path | None) -> None:
        nonlocal model
        model = serving = model.serving(task.request)

        def run(observer: Observer) -> object:
            if run_dir is not None:
                return serving.resume(run_dir, observer, task.output, overwrite)
            return serving.generate(task.request, task.output, observer, overwrite=overwrite)

        observed(run, as_json, quiet)

    tell = partial(_tell, count=len(tasks), as_json=as_json, quiet=quiet)
    try:
        finished = run_batch(tasks, Known(settings_when_made, settings_inside), make, tell)
    finally:
        model.close()
    there = [done.task for done in finished if done.outcome != "failed"]
    if sheet is not None and there:
        write_sheet(sheet, [(task.output, _label(task)) for task in there], overwrite)
    if failed := [str(done.task.number) for done in finished if done.outcome == "failed"]:
        raise PixelsmithError(f"{len(failed)} of {len(tasks)} pictures were not made: {', '.join(failed)}")


def _label(task: Task) -> str:
    """The label of a picture in a contact sheet; with ``--seed random`` the seed is read from the file."""
    request = (settings_inside(task.output) or {}).get("request", {})
    return f"{task.number}  seed {request.get('seed')}  {task.request.prompt}"


def _tell(done: Done, count: int, as_json: bool, quiet: bool) -> None:
    """Print the outcome of a picture of a batch."""
    if as_json:
        click.echo(json.dumps({"event": "PictureFinished", **done.to_dict()}))
    elif not quiet:
        what = {"made": "made", "there": "is there already", "failed": f"failed: {done.reason}"}[done.outcome]
        say(f"{done.task.number}/{count} {done.task.output} {what}", error=done.outcome == "failed")


def _read_row(row: Row, defaults: Mapping[str, Any]) -> tuple[dict[str, Any], Request]:
    """The command-line options of a row, by name, and their request.

    Raises ``RequestError``.
    """
    words: list[str] = []
    for name, value in row.items():
        word = "--" + name.replace("_", "-")
        option = next((one for one in _picture.params if word in one.opts), None)
        if not isinstance(option, click.Option):
            raise RequestError(f"there is no option {name!r}; columns are named as those of 'pixelsmith generate'")
        words += _words_of(option, word, value)
    try:
        with _picture.make_context("picture", words, default_map=dict(defaults)) as context:
            options = context.params
        for name in ("prompt", "output"):
            if options[name] is None:
                raise RequestError(f"it has no {name}; give it one, or all of them with --{name}")
        return options, make_request(options)
    except click.ClickException as error:
        raise RequestError(error.format_message()) from error


def _words_of(option: click.Option, word: str, value: Any) -> list[str]:
    """The command-line words of a value of a row; none for an empty value."""
    if value in (None, ""):
        return []
    if option.is_flag:
        on = click.BOOL.convert(value, option, None)
        return [word] if on else option.secondary_opts[:1]
    if isinstance(value, list | tuple):
        return [f"{word}={one}" for one in value] if option.multiple else [f"{word}={','.join(map(str, value))}"]
    return [f"{word}={value}"]
