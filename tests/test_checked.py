"""The checks of types and shapes that run in every other test."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from tests.checked import checked, templates

decorated: Callable[[Any], Any] = checked(typechecker=None)
refused = pytest.raises((BeartypeCallHintViolation, TypeCheckError))


@decorated
def longer(number: int, by: float = 1.0) -> str:
    return "a" * number if by else b""  # type: ignore[return-value]


@decorated
def product(a: Float[Tensor, "n m"], b: Float[Tensor, "m k"], other: int = 0) -> Float[Tensor, "n k"]:
    return a @ b if other == 0 else b


@decorated
def rows(a: Float[Tensor, "n m"]) -> Iterator[Float[Tensor, " m"]]:
    yield from a


@decorated
@dataclass(frozen=True)
class Point:
    x: int
    beside: Point | None = None

    @staticmethod
    @decorated
    def of(x: int) -> Point:
        return Point(x) if x else None  # type: ignore[return-value]


def adder(by: object) -> Callable[[int], int]:
    """What is inside of a function has the checks of its first definition, and the values of its own."""

    @decorated
    def add(x: int) -> int:
        return x + by  # type: ignore[operator]

    return add  # type: ignore[no-any-return]


def filler(value: float) -> Callable[[Tensor], Tensor]:
    @decorated
    def fill(x: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
        return torch.full_like(x, value)

    return fill  # type: ignore[no-any-return]


def test_arguments_and_results_of_other_types_are_refused() -> None:
    assert longer(2) == longer(2, by=1) == "aa"
    with refused:
        longer("2")
    with refused:
        longer(2, by="x")
    with refused:
        longer(2, 0)


def test_arrays_whose_shapes_do_not_fit_each_other_are_refused() -> None:
    a, b = torch.zeros(2, 3), torch.zeros(3, 4)
    assert product(a, b).shape == (2, 4)
    with refused:
        product(a, a)
    with refused:
        product(a, b, 1)
    with refused:
        product(a, b.int())
    assert [row.shape for row in rows(a)] == [(3,), (3,)]
    with refused:
        rows(a[0])


def test_types_that_are_defined_later_are_checked() -> None:
    assert Point.of(1) == Point(1)
    with refused:
        Point.of(0)


def test_fields_are_checked() -> None:
    assert Point(1, Point(2)).beside == Point(2)
    with refused:
        Point("1")  # type: ignore[arg-type]
    with refused:
        Point(1, 2)  # type: ignore[arg-type]


def test_functions_inside_of_others_are_checked_each_time() -> None:
    one, two = adder(1), adder(2)
    assert (one(1), two(1)) == (2, 3)
    for add in (one, two):
        with refused:
            add("1")  # type: ignore[arg-type]
    with refused:
        adder(0.5)(1)
    ones, twos = filler(1.0), filler(2.0)
    assert (float(ones(torch.zeros(1, 1))), float(twos(torch.zeros(1, 1)))) == (1, 2)
    for fill in (ones, twos):
        with refused:
            fill(torch.zeros(1, 2))


def test_what_a_function_was_defined_around_is_not_kept_alive() -> None:
    class Large:
        pass

    large = Large()
    left = weakref.ref(large)
    adder(large)
    assert any(name.endswith("adder.<locals>.add") for _, name, _ in templates)
    del large
    gc.collect()
    assert left() is None
