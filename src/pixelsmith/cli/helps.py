"""The output of ``--help``: options by group, the rest of them with ``--help-all``, examples, full descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pixelsmith.config.method import PRESET_NOTES
from pixelsmith.config.settings import Group

_ALL = "pixelsmith.help-all"
"""The key in a context for whether all options are shown."""
_OTHERS = "More"
"""The heading of options without a group."""
_FEW = 20
"""A command with no more options than these shows all of them."""
FIRST_STEPS = """\
Pixelsmith turns a sentence, or a picture of yours, into a picture of any size.

Make a first picture, with the small model that is here already:
  pixelsmith generate "watercolor map of islands in a turquoise sea" --preset fast --output islands.png

Zoom into it:
  pixelsmith view islands.png

Enlarge a map or an aerial picture of yours (for other subjects see docs/models.md); estimate the time first:
  pixelsmith plan "a coast from above" --from-image coast.jpg --size 60MP
  pixelsmith generate "a coast from above" --from-image coast.jpg --size 60MP --output big.tif

What you can set: pixelsmith generate --help. All commands: pixelsmith --help.
If something does not work: pixelsmith doctor."""


class GroupedOption(click.Option):
    """An option that is listed under a heading, by ``--help`` if it is ``common``, else by ``--help-all`` only."""

    def __init__(self, *args: Any, group: Group, common: bool = False, **said: Any) -> None:
        super().__init__(*args, **said)
        self.group, self.common = group, common


class Command(click.Command):
    """A command whose help lists options by group; ``examples``: the purpose of each, and its command line.

    A command with many options, some of which are not common, shows those by ``--help-all``.
    """

    def __init__(self, *args: Any, examples: Mapping[str, str] | None = None, **said: Any) -> None:
        super().__init__(*args, **said)
        self.examples = examples or {}
        self.hides = len(self.params) > _FEW and any(map(_is_rare, self.params))
        if self.hides:
            self.params.append(
                click.Option(
                    ["--help-all"],
                    is_flag=True,
                    is_eager=True,
                    expose_value=False,
                    callback=_show_all,
                    help="Show every option and exit.",
                )
            )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples, a section for each group with shown options, presets, and the number of hidden options."""
        if self.examples:
            with formatter.section("Examples"):
                for meaning, line in self.examples.items():
                    formatter.write(f"{' ' * formatter.current_indent}{meaning}:\n")
                    formatter.write(f"{' ' * formatter.current_indent}  {line}\n")
        hides = self.hides and not ctx.meta.get(_ALL)
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        shown = [one for one in options if not (hides and _is_rare(one))]
        for title in (*Group, _OTHERS):
            rows = [one.get_help_record(ctx) for one in shown if _heading(one) == title]
            if records := [row for row in rows if row is not None]:
                with formatter.section(title):
                    formatter.write_dl(records)
        if any(one.name == "preset" for one in self.params):
            with formatter.section("Presets"):
                formatter.write_dl(list(PRESET_NOTES.items()))
        if left_out := len(options) - len(shown):
            formatter.write_paragraph()
            formatter.write_text(f"{left_out} more options: {ctx.command_path} --help-all")


def _is_rare(option: click.Parameter) -> bool:
    return isinstance(option, GroupedOption) and not option.common


def _heading(option: click.Parameter) -> str:
    return option.group if isinstance(option, GroupedOption) else _OTHERS


def _show_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help())
        ctx.exit()


class Commands(click.Group):
    """Commands, listed with the whole first sentence of what each does."""

    command_class = Command
    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As in click, but without truncation."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(one.help or "")) for name, one in self.commands.items()])


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."
