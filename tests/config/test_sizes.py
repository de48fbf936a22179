"""Sizes as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith import RequestError, Size
from pixelsmith.config.sizes import asked_size

WIDE = Size(300, 200)


@pytest.mark.parametrize(
    ("text", "dpi", "size", "said"),
    [
        ("2048x1024", None, Size(2048, 1024), None),
        ("2048", 150.0, Size(2048, 2048), 150.0),
        ("2048 x 1024 @ 150 dpi", None, Size(2048, 1024), 150.0),
        ("60x90cm@300dpi", None, Size(7087, 10630), 300.0),
        ("60x90cm", None, Size(7087, 10630), 300.0),
        ("60x90cm", 150.0, Size(3543, 5315), 150.0),
        ("60x90cm@150dpi", 150.0, Size(3543, 5315), 150.0),
        ("24X36in@150DPI", None, Size(3600, 5400), 150.0),
        ("8.5×11in@200dpi", None, Size(1700, 2200), 200.0),
        ("1m@72.5dpi", None, Size(2854, 2854), 72.5),
        ("210x297mm", 254.0, Size(2100, 2970), 254.0),
        ("0.06MP", None, Size(300, 200), None),
        ("24mp@240dpi", None, Size(6000, 4000), 240.0),
        ("1.5GP", None, Size(47434, 31623), None),
    ],
)  # fmt: skip
def test_sizes_in_pixels_as_prints_and_as_areas(text: str, dpi: float | None, size: Size, said: float | None) -> None:
    assert asked_size(text, dpi, lambda: WIDE) == (size, said)


@pytest.mark.parametrize(
    ("text", "dpi", "message"),
    [
        ("", None, "expected WIDTHxHEIGHT in pixels"),
        ("60x90km", None, "60x90cm@300dpi"),
        ("60cmx90cm", None, "expected WIDTHxHEIGHT in pixels"),
        ("60x90cm@dpi", None, "expected WIDTHxHEIGHT in pixels"),
        ("-60x90cm", None, "expected WIDTHxHEIGHT in pixels"),
        ("10x20MP", None, "expected WIDTHxHEIGHT in pixels"),
        ("60x90cm@0dpi", None, "dpi: expected a number from 1 to 10000, got 0.0"),
        ("60x90cm", -1.0, "dpi"),
        ("60x90cm@300dpi", 150.0, "the size says 300, --dpi 150; leave one of them out"),
        ("0.001x9mm@1dpi", None, "1 to 10,000,000 pixels a side"),
        ("900m", None, "is 10,629,921"),
        ("999999GP", None, "pixels a side"),
        ("9" * 400 + "MP", None, "expected WIDTHxHEIGHT in pixels"),
    ],
)  # fmt: skip
def test_invalid_sizes_are_refused_with_the_reason(text: str, dpi: float | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        asked_size(text, dpi, lambda: WIDE)


@given(st.floats(0.01, 2000), st.integers(50, 5000), st.integers(50, 5000))
def test_an_area_has_the_requested_aspect_ratio_and_number_of_pixels(area: float, width: int, height: int) -> None:
    size, _ = asked_size(f"{area:.4f}MP", None, lambda: Size(width, height))
    exact = Size(width, height).scaled((area * 1e6 / (width * height)) ** 0.5)
    assert abs(size.width - exact.width) <= 1
    assert abs(size.height - exact.height) <= 1
    assert size.area == pytest.approx(area * 1e6, rel=0.1)


@given(st.floats(1, 200), st.floats(1, 200), st.integers(30, 600))
def test_a_print_has_the_requested_length_to_half_a_dot(width: float, height: float, dpi: int) -> None:
    width, height = round(width, 3), round(height, 3)
    size, said = asked_size(f"{width:.3f}x{height:.3f}cm@{dpi}dpi", None, lambda: WIDE)
    assert said == dpi
    for pixels, asked in ((size.width, width), (size.height, height)):
        assert abs(pixels / dpi - asked / 2.54) <= 0.51 / dpi


def test_only_an_area_needs_an_aspect_ratio() -> None:
    def shape() -> Size:
        raise AssertionError("the model would be looked for")

    assert asked_size("60x90cm", None, shape)[0] == Size(7087, 10630)
