"""The terminal: paths in arguments, printable text, amounts in suitable units."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from pixelsmith.system.places import at_home

_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, which move the cursor or control the terminal; line separators; characters that change the
direction of writing; surrogates, which cannot be encoded. Joiners are allowed, because scripts and emoji need them."""
_BYTES = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB")
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86_400, 365.25 * 86_400


class _Place(click.Path):
    """A path with ``~`` expanded, which shells do not do in ``--output=~/x.png``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(at_home(value), param, ctx)


PLACE = _Place(path_type=Path)
"""The type of arguments and options that are paths."""


def printable(text: object) -> str:
    """Text from a file or a user as one line, with characters that affect a terminal escaped."""
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def say(text: object, error: bool = False) -> None:
    """Print a line to standard output or standard error."""
    click.echo(printable(text), err=error)


def amount(count: float) -> str:
    """Bytes in a suitable unit, such as ``"17.6 MB"``."""
    unit = 0
    while count >= 999.95 and unit < len(_BYTES) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.0f} B" if unit == 0 else f"{count:,.1f} {_BYTES[unit]}"


def duration(seconds: float) -> str:
    """A time in suitable units: ``"40 s"``, ``"1:05 min"``, ``"3:20 h"``, ``"12 days"``, ``"90 years"``."""
    seconds = round(seconds)
    if seconds < 2 * _MINUTE:
        return f"{seconds} s"
    if seconds < 2 * _HOUR:
        return f"{seconds // _MINUTE}:{seconds % _MINUTE:02} min"
    if seconds < 2 * _DAY:
        return f"{seconds // _HOUR}:{seconds % _HOUR // _MINUTE:02} h"
    if seconds < 2 * _YEAR:
        return f"{seconds / _DAY:,.0f} days"
    return f"{seconds / _YEAR:,.0f} years"
