"""Conversion of decoded values to the bit depth and the colour profile of a file."""

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
from pixelsmith.pixels.depth import Encoding, as_bytes, thresholds
from pixelsmith.pixels.files import check_output, write_picture
from pixelsmith.pixels.formats import format_of
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.transparency import WithAlpha
from pixelsmith.pixels.zoomable import open_file

SETTINGS = {"request": {"prompt": "a sky"}}
SIZE = Size(300, 140)
GRADIENT = torch.linspace(100, 104, SIZE.width).expand(3, SIZE.height, -1).contiguous()
"""A sky: four grey values in 300 pixels."""


def written(path: Path, channels: int, encoding: Encoding) -> tuple[torch.Tensor, pyvips.Image]:
    """Random values in 0..255, and the file that they are written into."""
    values = torch.rand(channels, SIZE.height, SIZE.width, generator=torch.Generator().manual_seed(0)) * 255
    picture = Array(values) if channels == 3 else WithAlpha(Array(values[:3]), Array(values[3:]))
    write_picture(picture, path, SETTINGS, encoding=encoding)
    return values, pyvips.Image.new_from_file(str(path))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
def test_sixteen_bits_keep_decoded_values(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"deep.{suffix}"
    values, image = written(path, channels, Encoding(16))
    assert (image.format, image.bands) == ("ushort", channels)
    found = image.numpy().astype(np.float64) / 257
    assert np.abs(found - values.permute(1, 2, 0).numpy()).max() <= 0.51 / 257
    assert read_settings(path) == SETTINGS
    if channels == 3:
        seen = read_picture(path).read(SIZE.window)
        assert (seen.int() - as_bytes(values).int()).abs().max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["tif", "tiff"])
def test_floats_are_stored_as_they_are(tmp_path: Path, suffix: str, channels: int) -> None:
    path = tmp_path / f"float.{suffix}"
    values, image = written(path, channels, Encoding(32))
    assert (image.format, image.bands) == ("float", channels)
    assert np.array_equal(image.numpy(), (values / 255).permute(1, 2, 0).numpy())
    assert read_settings(path) == SETTINGS
    if channels == 3:
        seen = read_picture(path).read(SIZE.window)
        assert (seen.int() - as_bytes(values).int()).abs().max() <= 1
        shown = np.asarray(open_file(path).look((0, 0, SIZE.width, SIZE.height), SIZE))
        assert np.abs(shown.astype(int) - as_bytes(values).permute(1, 2, 0).numpy()).max() <= 1


def test_floats_are_clipped_to_black_and_white() -> None:
    values = torch.tensor([[[-20.0, 0.0, 51.0, 255.0, 280.0]]])
    stored = Encoding(32).stored(values, Window(0, 0, 1, 5))
    assert np.allclose(stored.view(np.float32).ravel(), [0, 0, 0.2, 1, 1])


def test_a_pyramid_of_floats_keeps_its_mean(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    write_picture(Array(GRADIENT.repeat(1, 4, 3)), path, SETTINGS, encoding=Encoding(32))
    small = pyvips.Image.new_from_file(str(path), page=1)
    assert (small.format, small.width) == ("float", 450)
    assert small.avg() * 255 == pytest.approx(GRADIENT.mean().item(), abs=0.01)


def in_display_p3(values: np.ndarray) -> np.ndarray:
    """Values (..., 3) of sRGB in 0..1 as those of Display P3, by IEC 61966-2-1 and SMPTE EG 432-1."""

    def to_xyz(primaries: list[tuple[float, float]]) -> np.ndarray:
        columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in [*primaries, (0.3127, 0.3290)]]).T
        return np.asarray(columns[:, :3] * np.linalg.solve(columns[:, :3], columns[:, 3]))

    srgb, p3 = to_xyz([(0.64, 0.33), (0.3, 0.6), (0.15, 0.06)]), to_xyz([(0.68, 0.32), (0.265, 0.69), (0.15, 0.06)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    found = (linear @ np.linalg.solve(p3, srgb).T).clip(0, 1)
    return np.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(
    ("suffix", "bits"), [("png", 8), ("png", 16), ("tif", 16), ("jpg", 8), ("webp", 8), ("dzi", 8)]
)
def test_display_p3_stores_the_same_colours(tmp_path: Path, suffix: str, bits: int) -> None:
    ramp = torch.linspace(40, 250, SIZE.width).expand(SIZE.height, -1)
    values = torch.stack([ramp, ramp.flip(1), torch.full_like(ramp, 90)])
    path = tmp_path / f"wide.{suffix}"
    write_picture(Array(values), path, SETTINGS, encoding=Encoding(bits, profile="display-p3"))
    exact, lossless = values.permute(1, 2, 0).numpy(), suffix in ("png", "tif")
    shown = np.asarray(open_file(path).look((0, 0, SIZE.width, SIZE.height), SIZE)).astype(float)
    assert np.abs(shown - exact).mean() < (1 if lossless else 3), "the viewer shows the same colours"
    if suffix != "dzi":
        image = pyvips.Image.new_from_file(str(path))
        found = image.numpy() / (2**bits - 1)
        assert np.abs(found - in_display_p3(exact / 255)).mean() < (1 if lossless else 3) / 255
        assert bytes(image.get("icc-profile-data")) == bytes(pyvips.Operation.call("profile_load", "p3"))


def test_eight_bit_values_are_exact_in_sixteen_bits(tmp_path: Path) -> None:
    pixels = torch.arange(256, dtype=torch.uint8).expand(3, 2, -1).contiguous()
    write_picture(Array(pixels), tmp_path / "a.png", SETTINGS, encoding=Encoding(16))
    found = pyvips.Image.new_from_file(str(tmp_path / "a.png")).numpy()
    assert (found[0, :, 0] == np.arange(256) * 257).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_dithering_keeps_the_mean_where_rounding_makes_steps(tmp_path: Path, suffix: str) -> None:
    def smoothed(encoding: Encoding) -> np.ndarray:
        path = tmp_path / f"{encoding.dither}.{suffix}"
        write_picture(Array(GRADIENT), path, SETTINGS, encoding=encoding)
        with Image.open(path) as image:
            values = np.array(image).astype(float)[..., 0]
        assert set(np.unique(values)) <= {100.0, 101.0, 102.0, 103.0, 104.0}
        # Means of columns over blocks of 8 by the height.
        return np.asarray(values[:, : 8 * (SIZE.width // 8)].mean(0).reshape(-1, 8).mean(1))

    exact = GRADIENT[0, 0, : 8 * (SIZE.width // 8)].reshape(-1, 8).mean(1).numpy()
    assert np.abs(smoothed(Encoding(8, dither=True)) - exact).max() < 0.05
    assert np.abs(smoothed(Encoding(8)) - exact).max() > 0.4


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 40), st.integers(1, 40))
def test_dithering_depends_on_the_position_only(top: int, left: int, height: int, width: int) -> None:
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
        stored = Encoding(8, dither=True).stored(values, Window(7, 9, 4, 256))
        assert (stored[..., 0] == np.arange(256)).all()


@pytest.mark.parametrize("suffix", ["jpg", "webp", "dzi", "zip"])
def test_eight_bit_formats_refuse_more_bits_before_any_work(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PictureError, match=r"files have 8 bits per channel; for 16 write \.png, \.tif, \.tiff"):
        check_output(tmp_path / f"a.{suffix}", Size(9, 9), SETTINGS, bits=16)


def test_a_large_16_bit_tiff_is_lossless_and_twice_as_large() -> None:
    size = Size(20_000, 20_000)
    assert format_of(Path("a.tif"), size, bits=16).options["compression"] == "deflate"
    assert format_of(Path("a.png"), size, bits=16).pixel_bytes == 2 * format_of(Path("a.png"), size).pixel_bytes
    with pytest.raises(PictureError, match=r"\.png files have 16 bits per channel; for 32 write \.tif, \.tiff"):
        check_output(Path("a.png"), Size(9, 9), SETTINGS, bits=32)
    with pytest.raises(PictureError, match="megapixels"):
        check_output(Path("a.tiff"), Size(30_000, 30_000), SETTINGS, bits=16)
