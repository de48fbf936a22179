"""``docs/options.md``: every option of the command line, from the commands and the dataclasses that options set.

An option is described once: in its help, and in the docstring of the field that it sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from inspect import getdoc
from pathlib import Path
from typing import Any

import click

from pixelsmith import PRESETS, Compute, Method, Parts, Perturbation, Request, Workers
from pixelsmith.cli.helps import GroupedOption
from pixelsmith.cli.program import cli
from pixelsmith.config import strategies
from pixelsmith.config.recommended import Recommended
from pixelsmith.config.settings import Group
from website.links import linked

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
OWNERS: tuple[type, ...] = (Request, Method, Perturbation, Parts, Compute, Workers)
"""The dataclasses whose fields options set."""
HELP, IN_PYTHON = "Help", "In Python, without an option"
"""Sections of the page besides the groups of options in the help."""
RENAMED = {
    "model_config": (Parts, "config"),
    "perturbation_scale": (Perturbation, "scale"),
    "perturbation_interval": (Perturbation, "interval"),
    "perturbed_layers": (Perturbation, "layers"),
}
"""Options whose names differ from those of the fields that they set."""
CONTAINERS = {"parts", "method", "compute", "name"}
"""Fields without an option of their own: those that contain other fields, and a perturbation's name."""
OF_THE_MODEL = {item.name for item in fields(Recommended)}
"""Fields whose defaults the model recommends."""


def generated() -> dict[str, str]:
    """The generated parts of the page, by the names of their markers."""
    return {"presets": _presets(), "generate": _generate(), "commands": _commands(), "strategies": _strategies()}


_HEAD = re.compile(r"(?:^|(?<=[;.] ))``\w+``(?:(?:,| and) ``\w+``)*(?=:|,)")
"""The beginning of a field's description: ``- ``a``, ``b``: text; ``c``: text``."""


@cache
def descriptions(owner: type) -> dict[str, str]:
    """The descriptions of a dataclass's fields, from the bullets of its docstring."""
    names = {item.name for item in fields(owner)}
    said = dict[str, str]()
    for bullet in _bullets(getdoc(owner) or ""):
        heads = [(head, set(re.findall(r"``(\w+)``", head[0]))) for head in _HEAD.finditer(bullet)]
        heads = [(head, named) for head, named in heads if named <= names]
        ends = [head.start() for head, _ in heads[1:]] + [len(bullet)]
        for (head, named), end in zip(heads, ends, strict=True):
            said |= dict.fromkeys(named, bullet[head.end() + 1 : end].strip(" ;."))
    return said


def _bullets(text: str) -> list[str]:
    """The items of a list, each on one line."""
    found = re.findall(r"^- (.*?)(?=^- |^\s*$|\Z)", text, re.DOTALL | re.MULTILINE)
    return [" ".join(item.split()) for item in found]


def owner_of(option: click.Option) -> tuple[type, str] | None:
    """The dataclass and its field that an option sets; ``None`` if the option belongs only to the command."""
    if option.name in RENAMED:
        return RENAMED[option.name]
    return next(((owner, item.name) for owner in OWNERS for item in fields(owner) if item.name == option.name), None)


def options_of(command: click.Command) -> list[click.Option]:
    """A command's options in the order of its help."""
    return [option for option in command.params if isinstance(option, click.Option)]


def commands_in(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, including those of subgroups."""
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from commands_in(command, f"{before}{name} ")


def _generate() -> str:
    groups: dict[str, list[str]] = {title: [] for title in (*Group, HELP, IN_PYTHON)}
    set_by_option = set[tuple[type, str]]()
    for option in options_of(cli.commands["generate"]):
        found = owner_of(option)
        groups[option.group if isinstance(option, GroupedOption) else HELP].append(_entry(option, found))
        set_by_option |= {found} if found else set()
    for owner in OWNERS:
        others = (item.name for item in fields(owner) if item.name not in CONTAINERS)
        groups[IN_PYTHON] += [
            f"#### `{owner.__name__}.{name}`\n\n{_description(owner, name)}\n"
            for name in others
            if (owner, name) not in set_by_option
        ]
    return "\n".join(f"### {title}\n\n" + "\n".join(entries) for title, entries in groups.items())


def _entry(option: click.Option, found: tuple[type, str] | None) -> str:
    """One option: its help, and the description of the field that it sets."""
    paragraphs = [_said(option, found)]
    if found:
        paragraphs.append(f"`{found[0].__name__}.{found[1]}`: {_description(*found)}")
    return "\n\n".join([f"#### {_names(option)}", *paragraphs]) + "\n"


def _said(option: click.Option, found: tuple[type, str] | None = None) -> str:
    """An option's help, choices and default."""
    said, _, named = (option.help or "").partition("[default: ")
    choices = option.type.choices if isinstance(option.type, click.Choice) else ()
    default = named.rstrip("] ") or _default(option, found)
    sentences = [
        " ".join(said.split()),
        f"One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else "",
        "Can be given several times." if option.multiple and "several" not in said and "repeated" not in said else "",
        "Must be given." if option.required else "",
        f"Default: {default}." if default else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _default(option: click.Option, found: tuple[type, str] | None) -> str:
    """The default, unless the help states it: the option's, the field's, or that the model recommends it."""
    if found and found[0] is Method and found[1] in OF_THE_MODEL:
        return "as the model recommends"
    of_field = next((item.default for item in fields(found[0]) if item.name == found[1]), None) if found else None
    value = next((value for value in (option.default, of_field) if isinstance(value, (str, int, float))), None)
    if option.is_flag:
        return "on" if value and option.secondary_opts else ""
    return "" if value in (None, "") else f"`{value}`"


def _description(owner: type, name: str) -> str:
    text = descriptions(owner)[name]
    return linked(text[:1].upper() + text[1:] + ".")


def _names(option: click.Option) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _presets() -> str:
    """The table of the settings that presets change, with a column for each preset."""
    names = [name for name in PRESETS if name != "default"]
    changed = {name: _changes(PRESETS[name]) for name in names}
    rows = [item.name for item in fields(Method) if any(item.name in values for values in changed.values())]
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", "| --- |" + " --- |" * len(names)]
    for row in rows:
        cells = (f"`{changed[name][row]}`" if row in changed[name] else "" for name in names)
        lines.append(f"| `{row}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _changes(method: Method) -> dict[str, Any]:
    usual = Method()
    names = (item.name for item in fields(Method))
    return {name: getattr(method, name) for name in names if getattr(method, name) != getattr(usual, name)}


def _commands() -> str:
    """The other commands: their help, and their options that the first command does not have."""
    known = {(*option.opts, option.help) for option in options_of(cli.commands["generate"])}
    return "\n".join(_command(name, command, known) for name, command in commands_in(cli) if name != "generate")


def _command(name: str, command: click.Command, known: set[tuple[str | None, ...]]) -> str:
    """A command and its table; ``known``: names and help of options that need no row if it describes a picture."""
    arguments = (str(item.name).upper() for item in command.params if isinstance(item, click.Argument))
    makes_request = any("--size" in option.opts for option in options_of(command))
    rows = [
        f"| {_names(option)} | {_said(option)} |\n"
        for option in options_of(command)
        if not makes_request or (*option.opts, option.help) not in known
    ]
    table = f"| option | meaning |\n| --- | --- |\n{''.join(rows)}" if rows else ""
    described = "All options of `generate` that describe a picture, and:\n\n" if makes_request else ""
    said = " ".join((command.help or "").split())
    title = " ".join(["pixelsmith", name, *arguments])
    return f"### `{title}`\n\n{said}\n\n{described}{table}"


def _strategies() -> str:
    return "\n".join(f"- {item}" for item in _bullets(strategies.__doc__ or "")) + "\n"
