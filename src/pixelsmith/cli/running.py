"""Output options of commands, and running with the observer that they select."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.core import ParameterSource

from pixelsmith.cli.options import listed, with_options
from pixelsmith.cli.progress import ProgressBar, print_json
from pixelsmith.config.settings import Group
from pixelsmith.events import Observer, silent
from pixelsmith.families.loading.quiet import quiet_hub
from pixelsmith.system.terminal import say


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options for the output of long-running commands."""
    as_json = "Print events as JSON, one a line; no progress bar."
    options = [
        listed(Group.SCREEN, "--json", "as_json", is_flag=True, help=as_json),
        listed(Group.SCREEN, "--quiet", "-q", is_flag=True, help="Print nothing."),
    ]
    return with_options(command, options)


overwrite_option = listed(Group.FILE, "--overwrite", common=True, is_flag=True, help="Replace an existing file.")


def observed(run: Callable[[Observer], object], as_json: bool, quiet: bool) -> None:
    """Run with the selected observer."""
    if quiet or as_json:
        with quiet_hub():
            run(silent if quiet else print_json)
        return
    with ProgressBar() as bar:
        run(bar)
    say(bar.summary)


def is_given(context: click.Context, name: str) -> bool:
    """Whether an option was given on the command line, not by default."""
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE
