"""From values as they are decoded to the whole numbers of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelsmith.canvas import Array
from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.depth import Depth, as_bytes, thresholds
from pixelsmith.pixels.files import check_output, write_picture
from pixelsmith.pixels.formats import format_of
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.transparency import WithAlpha

SETTINGS = {"request": {"prompt": "a sky"}}
SIZE = Size(300, 140)
GRADIENT = torch.linspace(100, 104, SIZE.width).expand(3, SIZE.height, -1).contiguous()
"""A sky: four grey values in 300 pixels."""


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
def test_sixteen_bits_hold_what_was_decoded(tmp_path: Path, suffix: str, channels: int) -> None:
    values = torch.rand(channels, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0)) * 255
    path = tmp_path / f"deep.{suffix}"
    picture = Array(values) if channels == 3 else WithAlpha(Array(values[:3]), Array(values[3:]))
    write_picture(picture, path, SETTINGS, depth=Depth(16))
    image = pyvips.Image.new_from_file(str(path))
    assert (image.format, image.bands) == ("ushort", channels)
    found = image.numpy().astype(np.float64) / 257
    assert np.abs(found - values.permute(1, 2, 0).numpy()).max() <= 0.51 / 257
    assert read_settings(path) == SETTINGS
    if channels == 3:
        seen = read_picture(path).read(SIZE.window)
        assert (seen.int() - as_bytes(values).int()).abs().max() <= 1


def test_bytes_are_the_same_in_sixteen_bits(tmp_path: Path) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(3, 2, -1).contiguous()
    write_picture(Array(pixels), tmp_path / "a.png", SETTINGS, depth=Depth(16))
    found = pyvips.Image.new_from_file(str(tmp_path / "a.png")).numpy()
    assert (found[0, :, 0] == np.arange(256) * 257).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_dither_keeps_the_mean_where_rounding_makes_steps(tmp_path: Path, suffix: str) -> None:
    def smoothed(depth: Depth) -> np.ndarray:
        path = tmp_path / f"{depth.dither}.{suffix}"
        write_picture(Array(GRADIENT), path, SETTINGS, depth=depth)
        with Image.open(path) as image:
            values = np.array(image).astype(float)[..., 0]
        assert set(np.unique(values)) <= {100.0, 101.0, 102.0, 103.0, 104.0}
        # Means of columns over blocks of 8 by the height.
        return np.asarray(values[:, : 8 * (SIZE.width // 8)].mean(0).reshape(-1, 8).mean(1))

    exact = GRADIENT[0, 0, : 8 * (SIZE.width // 8)].reshape(-1, 8).mean(1).numpy()
    assert np.abs(smoothed(Depth(8, dither=True)) - exact).max() < 0.05
    assert np.abs(smoothed(Depth(8)) - exact).max() > 0.4


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 40), st.integers(1, 40))
def test_thresholds_follow_from_the_place(top: int, left: int, height: int, width: int) -> None:
    window = Window(top, left, height, width)
    found = thresholds(window)
    assert found.shape == (1, height, width)
    assert found.min() >= 0
    assert found.max() < 1
    whole = thresholds(Window(top, 0, height, left + width))
    assert torch.equal(found, whole[:, :, left:])


def test_whole_numbers_are_not_dithered() -> None:
    pixels = torch.arange(256).expand(3, 4, -1)
    for values in (pixels.to(torch.uint8), pixels.float()):
        stored = Depth(8, dither=True).stored(values, Window(7, 9, 4, 256))
        assert (stored[..., 0] == np.arange(256)).all()


@pytest.mark.parametrize("suffix", ["jpg", "webp", "dzi", "zip"])
def test_formats_of_eight_bits_say_so_before_the_work(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PictureError, match=r"files have 8 bits per channel; for 16 write \.png, \.tif, \.tiff"):
        check_output(tmp_path / f"a.{suffix}", Size(9, 9), SETTINGS, bits=16)


def test_a_large_tiff_of_sixteen_bits_stays_lossless_and_takes_twice_the_room() -> None:
    size = Size(20_000, 20_000)
    assert format_of(Path("a.tif"), size, bits=16).options["compression"] == "deflate"
    assert format_of(Path("a.png"), size, bits=16).pixel_bytes == 2 * format_of(Path("a.png"), size).pixel_bytes
    with pytest.raises(PictureError, match="megapixels"):
        check_output(Path("a.tiff"), Size(30_000, 30_000), SETTINGS, bits=16)
