from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import click
import pytest

from pixelsmith.cli.options import options_of, with_options
from pixelsmith.cli.program import cli
from pixelsmith.config.compute import Compute
from pixelsmith.config.method import Method
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import Request
from pixelsmith.config.settings import Group, check_numbers, setting, settings_of
from pixelsmith.errors import RequestError


@dataclass(frozen=True)
class Painted:
    """A dataclass with a setting of each kind."""

    layers: int = setting(3, "How many.", Group.PICTURE, least=1)
    brush: Literal["flat", "round"] = setting("flat", "Which.", Group.FILE, common=True)
    share: float | None = setting(None, "How much.", Group.PICTURE, range=(0, 1))
    wet: bool = setting(False, "On wet paper.", Group.PICTURE)
    names: tuple[str, ...] = setting((), "Of colours.", Group.PICTURE, option="--name")
    kept: str = "said by nobody"

    def __post_init__(self) -> None:
        check_numbers(self)


def painted_with(*words: str, left_open: bool = False) -> dict[str, object]:
    command = click.Command("paint", callback=lambda **options: options)
    for parameter in reversed(with_options(lambda **_: None, options_of(Painted, left_open)).__click_params__):  # type: ignore[attr-defined]
        command.params.append(parameter)
    return dict(command.make_context("paint", list(words)).params)


def test_an_option_is_derived_from_a_field() -> None:
    assert painted_with() == {"layers": 3, "brush": "flat", "share": None, "wet": False, "names": ()}
    words = ("--layers", "2", "--brush", "round", "--share", "0.5", "--wet", "--name", "red", "--name", "blue")
    assert Painted(**painted_with(*words)) == Painted(2, "round", 0.5, True, ("red", "blue"))  # type: ignore[arg-type]
    with pytest.raises(click.BadParameter, match="'flat', 'round'"):
        painted_with("--brush", "wide")


def test_omitted_options_are_not_replaced_by_defaults() -> None:
    assert set(painted_with(left_open=True).values()) == {None, ()}
    assert painted_with("--no-wet", left_open=True)["wet"] is False


def test_numbers_outside_their_range_are_refused() -> None:
    with pytest.raises(RequestError, match="layers: expected a whole number of at least 1, got 0"):
        Painted(layers=0)
    with pytest.raises(RequestError, match="share: expected a number from 0 to 1, got 2"):
        Painted(share=2)


WRITTEN_OUT = {
    Request: {"prompt", "size", "seed", "cascade", "regions", "parts", "method", "compute"},
    Method: {"perturbation", "captions"},
    Parts: {"captioner"},
    Compute: set(),
}
"""Fields whose options are written out, or that hold other values."""


@pytest.mark.parametrize("owner", WRITTEN_OUT, ids=lambda owner: owner.__name__)
def test_every_field_of_a_request_can_be_set_on_the_command_line(owner: type) -> None:
    derived = {one.name: one.parameter for one in settings_of(owner)}
    assert set(derived) == {item.name for item in fields(owner)} - WRITTEN_OUT[owner]
    assert set(derived.values()) <= {option.name for option in cli.commands["generate"].params}
