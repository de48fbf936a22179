"""Slider maps: computed from a picture, and painted by a user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith import PictureError
from pixelsmith.canvas import Array
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.slider_map import LocalDetail, flatness_map, slider_map


def half_noise(width: int = 96, height: int = 64) -> Array:
    """Grey on the left, noise with a standard deviation of 40 grey values on the right."""
    values = torch.full((3, height, width), 128.0)
    noise = 40 * torch.randn(3, height, width // 2, generator=torch.Generator().manual_seed(0))
    values[..., width // 2 :] += noise
    return Array(values.clamp(0, 255).round().to(torch.uint8))


@given(top=st.integers(0, 5), left=st.integers(0, 8), height=st.integers(1, 3), width=st.integers(1, 4))
def test_windows_of_the_detail_equal_those_of_the_whole(top: int, left: int, height: int, width: int) -> None:
    detail = LocalDetail(half_noise(), 8)
    window = Window(top, left, height, width)
    whole = detail.read(detail.size.window)
    torch.testing.assert_close(detail.read(window), whole[(..., *window.slices)], atol=1e-4, rtol=0)


def test_detail_is_the_local_standard_deviation_of_high_frequencies() -> None:
    """Nearly all of white noise is above the band: its standard deviation, reduced by the part within the band."""
    values = LocalDetail(half_noise(), 8).read(Window(0, 0, 8, 12))
    assert float(values[..., :2].max()) < 0.01
    assert float(values[..., 9:].mean()) == pytest.approx(40, rel=0.1)


def test_flatness_is_high_without_and_low_with_detail() -> None:
    flat = flatness_map(half_noise(), Size(384, 256), 8)
    assert flat.size == Size(48, 32)
    values = flat.read(flat.size.window)
    assert torch.equal(values[..., :12], torch.ones(1, 32, 12))
    assert torch.equal(values[..., 36:], torch.zeros(1, 32, 12))


def test_flatness_is_scaled_to_its_most() -> None:
    whole, less = (flatness_map(half_noise(), Size(384, 256), 8, most=most) for most in (1.0, 0.3))
    window = whole.size.window
    torch.testing.assert_close(less.read(window), 0.3 * whole.read(window))


def test_a_painted_map_gives_positions_from_black_to_white(tmp_path: Path) -> None:
    """Of another size than the canvas, and read in windows."""
    grey = np.zeros((50, 100), np.uint8)
    grey[:, 50:] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    found = slider_map(str(tmp_path / "map.png"), 0.5, Size(320, 160), 8)
    assert found.size == Size(40, 20)
    values = found.read(found.size.window)
    assert float(values[..., :18].max()) < 0.01
    assert float(values[..., 22:].min()) > 0.99
    window = Window(3, 15, 7, 9)
    torch.testing.assert_close(found.read(window), values[(..., *window.slices)], atol=1 / 255, rtol=0)


@pytest.mark.parametrize("kind", ["auto", "even"])
def test_without_a_picture_the_position_is_constant(kind: str) -> None:
    found = slider_map(kind, 0.3, Size(100, 60), 8)
    assert torch.equal(found.read(found.size.window), torch.full((1, 8, 13), 0.3))


def test_a_missing_map_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"nowhere\.png"):
        slider_map(str(tmp_path / "nowhere.png"), 0.5, Size(64, 64), 8)
