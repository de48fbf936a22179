"""Transparency: resampled by the same kernel as the colours, without fringes at edges."""

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
from pixelsmith.geometry import Size
from pixelsmith.pixels import reading
from pixelsmith.pixels.files import check_output, write_picture
from pixelsmith.pixels.formats import format_of
from pixelsmith.pixels.reading import is_transparent, read_picture, read_start, read_with_alpha
from pixelsmith.pixels.resample import Resized
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.transparency import WithAlpha, with_colours_spread
from pixelsmith.viewer import open_file
from tests.pixels.odd import picture, tags, write_tiff
from tests.pixels.test_files import written

RED = (200, 30, 40)
SETTINGS = {"request": {"prompt": "a disc"}}


def disc(side: int, hidden: tuple[int, int, int] = (0, 255, 0)) -> np.ndarray:
    """A red disc with a smooth edge, and another colour under transparent pixels."""
    y, x = np.mgrid[0:side, 0:side] + 0.5
    alpha = np.clip(0.4 * side + 0.5 - np.hypot(x - side / 2, y - side / 2), 0, 1)
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[..., :3] = np.where(alpha[..., None] > 0, RED, hidden)
    pixels[..., 3] = np.round(255 * alpha)
    return pixels


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("kernel", ["lanczos", "bicubic"])
@pytest.mark.parametrize("hidden", [(0, 255, 0), (0, 0, 0), (255, 255, 255)])
def test_an_enlarged_edge_has_no_fringe(tmp_path: Path, hidden: tuple[int, int, int], kernel: str) -> None:
    colours, alpha = read_start(save(tmp_path / "disc.png", disc(60, hidden)))
    assert alpha is not None
    target = Size(240, 240)
    large = WithAlpha(*(Resized(one, one.size, target, kernel) for one in (colours, alpha)))  # type: ignore[arg-type]
    pixels = large.read(target.window).int()
    seen = pixels[3] > 0
    assert (pixels[:3, seen] - torch.tensor(RED)[:, None]).abs().max() <= 2
    assert pixels[3].float().mean() / 255 == pytest.approx(np.pi * 0.4**2, rel=0.02), "the disc is as large"
    assert set(pixels[3, 0].tolist()) == {0}
    assert pixels[3, 120, 120] == 255


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_opaque_pixels_keep_their_colours(seed: int, width: int, height: int) -> None:
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (height, width, 3), np.uint8)
    alpha = rng.choice(np.array([0, 90, 255], np.uint8), (height, width, 1))
    spread = with_colours_spread(pyvips.Image.new_from_array(colours), pyvips.Image.new_from_array(alpha)).numpy()
    opaque = alpha[..., 0] == 255
    assert (spread[opaque] == colours[opaque]).all()
    shown = colours[alpha[..., 0] > 0]
    if len(shown):
        assert (spread.reshape(-1, 3).min(0) >= shown.min(0) - 1.0).all()
        assert (spread.reshape(-1, 3).max(0) <= shown.max(0) + 1.0).all(), "no colour that is not seen anywhere"
    else:
        assert (spread == 255).all()


def test_transparent_pixels_are_composited_over_a_background(tmp_path: Path) -> None:
    path = save(tmp_path / "disc.png", disc(40))
    colours, alpha = read_start(path, (10, 20, 30))
    assert alpha is None
    pixels = colours.read(colours.size.window)
    assert pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert pixels[:, 20, 20].tolist() == list(RED)
    assert read_picture(path).read(Size(1, 1).window).flatten().tolist() == [255, 255, 255], "as it is looked at"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_opaque_pictures_have_no_alpha(tmp_path: Path, mode: str) -> None:
    Image.fromarray(picture()).convert(mode).save(tmp_path / "a.png")
    assert not is_transparent(tmp_path / "a.png")
    assert read_start(tmp_path / "a.png")[1] is None


@pytest.mark.parametrize("mode", ["LA", "P", "turned"])
def test_alpha_is_found_in_every_colour_space(tmp_path: Path, mode: str) -> None:
    pixels = np.full((20, 30, 4), 255, np.uint8)
    pixels[:, :10] = 0
    image = Image.fromarray(pixels)
    if mode == "turned":
        exif = Image.Exif()
        exif[274] = 6
        image.save(tmp_path / "a.png", exif=exif)
    else:
        converted = Image.fromarray(pixels[..., 3] // 255).convert("P") if mode == "P" else image.convert(mode)
        converted.info.update({"transparency": 0} if mode == "P" else {})
        converted.save(tmp_path / "a.png")
    colours, alpha = read_start(tmp_path / "a.png")
    assert alpha is not None
    assert alpha.size == colours.size == (Size(20, 30) if mode == "turned" else Size(30, 20))
    mask = alpha.read(alpha.size.window)[0]
    upright = mask[:10] if mode == "turned" else mask[:, :10]
    assert int(upright.max()) == 0
    assert float(mask.float().mean()) == pytest.approx(170)


def test_premultiplied_colours_of_a_tiff_are_unpremultiplied(tmp_path: Path) -> None:
    pixels = np.pad(disc(96).astype(int), ((0, 0), (0, 32), (0, 0)))
    pixels[..., :3] = np.round(pixels[..., :3] * pixels[..., 3:] / 255)
    strips = [pixels.astype(np.uint8).tobytes()]
    path = write_tiff(tmp_path / "a.tif", strips, tags(4, t338=(3, [1])))
    colours, alpha = read_start(path)
    assert alpha is not None
    values, mask = colours.read(colours.size.window).int(), alpha.read(alpha.size.window)[0]
    assert (values[:, mask > 128] - torch.tensor(RED)[:, None]).abs().max() <= 1


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "tiff", *written("avif")])
def test_formats_with_alpha_keep_it(tmp_path: Path, suffix: str) -> None:
    path, pixels = tmp_path / f"disc.{suffix}", torch.from_numpy(disc(300)).permute(2, 0, 1).contiguous()
    check_output(path, Size(300, 300), SETTINGS, alpha=True)
    write_picture(WithAlpha(Array(pixels[:3]), Array(pixels[3:])), path, SETTINGS)
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        found = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert (found[3].int() - pixels[3].int()).abs().max() <= (16 if suffix == "avif" else 0)
    if suffix not in ("webp", "avif"):
        assert torch.equal(found, pixels)
        assert torch.equal(read_with_alpha(path).read(Size(300, 300).window), pixels)
    assert read_settings(path) == SETTINGS
    shown = np.asarray(open_file(path).look((0, 0, 300, 300), Size(300, 300)))
    assert shown[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["jpg", "dzi", "zip"])
def test_formats_without_alpha_are_refused_before_the_work(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PictureError, match=rf"\.{suffix} files cannot be; write \.png, .*--background white"):
        check_output(tmp_path / f"a.{suffix}", Size(9, 9), SETTINGS, alpha=True)


def test_a_large_tiff_with_alpha_stays_lossless() -> None:
    size = Size(20_000, 20_000)
    assert format_of(Path("a.tif"), size).options["compression"] == "jpeg"
    assert format_of(Path("a.tif"), size, alpha=True).options["compression"] == "deflate"


def test_a_file_is_checked_for_transparency_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    parted = reading._parted

    def noted(path: Path) -> tuple[pyvips.Image, pyvips.Image | None]:
        looks.append(path)
        return parted(path)

    monkeypatch.setattr(reading, "_parted", noted)
    path = save(tmp_path / "disc.png", disc(40))
    assert [is_transparent(path) for _ in range(3)] == [True] * 3
    assert len(looks) == 1
    Image.fromarray(picture()).save(path)
    assert not is_transparent(path)
    assert len(looks) == 2
