"""Checks of single values that a user gave; each raises ``RequestError`` with what was expected and what came."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

from PIL import ImageColor

from pixelsmith.errors import RequestError


def check_whole(name: str, value: object, least: int) -> None:
    """A whole number of at least ``least``."""
    if type(value) is not int or value < least:
        raise RequestError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def check_unicode(name: str, value: object) -> None:
    """Text of whole characters: bytes of a command line that are no UTF-8 come as halves of some."""
    if not isinstance(value, str):
        raise RequestError(f"{name}: expected text, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name}: expected Unicode text, got {value[error.start]!r} as character {error.start + 1}"
        ) from error


def check_range(name: str, value: object, low: float, high: float) -> None:
    """A number in ``low..high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{name}: expected a number from {low} to {high}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """True or False."""
    if type(value) is not bool:
        raise RequestError(f"{name}: expected True or False, got {value!r}")


def check_text(name: str, value: object, expected: str) -> None:
    """Text with something in it; ``expected`` says what it means."""
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"{name}: expected {expected}, got {value!r}")


def check_shares(name: str, values: tuple[float, ...]) -> None:
    """At least one number, all in 0..1."""
    if not values:
        raise RequestError(f"{name}: expected numbers from 0 to 1, got none")
    for share in values:
        check_range(name, share, 0, 1)


def check_interval(name: str, value: tuple[float, ...]) -> None:
    """Two shares in 0..1, of which the second is not the smaller one."""
    check_shares(name, value)
    if len(value) != 2 or list(value) != sorted(value):
        raise RequestError(f"{name}: expected two rising shares in 0..1, got {value}")


def check_choices(owner: object, **choices: Any) -> None:
    """Fields of ``owner`` that hold one of the values of a ``Literal``, or a name of a registry."""
    for name, allowed in choices.items():
        value = getattr(owner, name)
        names = get_args(allowed) or tuple(allowed)
        if value not in names:
            raise RequestError(f"{name.replace('_', ' ')}: expected one of {', '.join(names)}, got {value!r}")


def colour_of(name: str, value: object) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of an opaque colour as CSS writes it: ``white``, ``#fff8e0``, ``rgb(9,9,9)``."""
    with suppress(ValueError):
        colour = ImageColor.getrgb(str(value))
        if len(colour) == 3:
            return colour
    raise RequestError(f"{name}: expected an opaque colour such as white or #fff8e0, got {value!r}")
