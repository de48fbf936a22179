"""Metadata of the fields of a request: the help, name and valid values of their command-line options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pixelsmith.config.checks import check_range, check_whole

_SETTING = "setting"
"""Its key in the metadata of a field."""


class Group(StrEnum):
    """Headings under which help lists options, in the order in which it shows them."""

    PICTURE = "The picture"
    SOURCE = "A picture of yours to start from"
    DETAIL = "What is kept and what is invented"
    QUALITY = "Time and quality"
    GUIDANCE = "How strongly the prompt pulls"
    MODEL = "The model"
    MACHINE = "This machine"
    FILE = "The file"
    SCREEN = "What is printed"


@dataclass(frozen=True)
class Setting:
    """One field that a user may set.

    - ``name``: of the field; ``kinds``: its types without ``None``; ``optional``: whether it may be that.
    - ``default``: of the field; ``help``: of its option.
    - ``option``: its name on the command line; ``metavar``: the placeholder for its value in help.
    - ``choices``: its valid names; empty if any value of its type is valid.
    - ``range``: the smallest and the largest number; ``least``: of a whole number without an upper bound.
    - ``group``: the heading under which help lists it; ``common``: whether ``--help`` shows it, not only
      ``--help-all``.
    """

    name: str
    kinds: tuple[Any, ...]
    optional: bool
    default: Any
    help: str
    group: Group
    option: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    least: int | None = None
    common: bool = False

    @property
    def parameter(self) -> str:
        """The name of its parameter in a command."""
        return self.name if self.many else self.option.removeprefix("--").replace("-", "_")

    @property
    def many(self) -> bool:
        """Whether its option can be given several times."""
        return any(get_origin(kind) is tuple and get_args(kind)[0] is not float for kind in self.kinds)


def setting(
    default: Any,
    help: str,  # noqa: A002 (click's name for it)
    group: Group,
    *,
    option: str | None = None,
    metavar: str | None = None,
    choices: Mapping[str, object] | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002
    least: int | None = None,
    common: bool = False,
) -> Any:
    """A field of a dataclass that is also a command-line option; the arguments are those of ``Setting``.

    ``choices``: a registry; those of a ``Literal`` follow from its type.
    """
    said = {"help": help, "group": group, "common": common}
    said |= {"option": option, "metavar": metavar, "range": range, "least": least}
    return field(default=default, metadata={_SETTING: said | {"choices": tuple(choices or ())}})


def settings_of(owner: type) -> Iterator[Setting]:
    """The settings among the fields of a dataclass, in their order."""
    hints = get_type_hints(owner)
    for item in fields(owner):
        if said := item.metadata.get(_SETTING):
            hint = hints[item.name]
            parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            kinds = tuple(kind for kind in parts if kind is not NoneType)
            choices = said["choices"] or tuple(name for kind in kinds for name in get_args(kind) if type(name) is str)
            option = said["option"] or "--" + item.name.replace("_", "-")
            default = None if item.default is MISSING else item.default
            yield Setting(item.name, kinds, NoneType in parts, default, **said | {"choices": choices, "option": option})


def check_numbers(owner: Any) -> None:
    """Raise ``RequestError`` if a number is outside the range of its setting; ``None`` is valid."""
    for item in fields(owner):
        said, value = item.metadata.get(_SETTING, {}), getattr(owner, item.name)
        if said and value is not None:
            name = item.name.replace("_", " ")
            if said["range"] is not None:
                check_range(name, value, *said["range"])
            if said["least"] is not None:
                check_whole(name, value, said["least"])
