"""Which pages of a file are levels of a pyramid, and that all levels look alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from pixelsmith import PictureError, Size
from pixelsmith.pixels.zoomable import PyramidFile
from pixelsmith.viewer import open_file
from tests.pixels.odd import picture, profile

FULL = Size(2400, 1600)


def smooth(size: Size) -> np.ndarray:
    """Smooth colours that are equal in every size, up to rounding."""
    x = np.broadcast_to(np.linspace(0, 255, size.width), (size.height, size.width))
    y = np.broadcast_to(np.linspace(0, 255, size.height)[:, None], (size.height, size.width))
    return np.stack([x, y, (x + y) / 2], -1)


def image_of(values: np.ndarray, interpretation: str = "srgb") -> pyvips.Image:
    return pyvips.Image.new_from_array(values).copy(interpretation=interpretation)


def seen(path: Path, size: Size) -> np.ndarray:
    source = open_file(path)
    return np.asarray(source.look((0, 0, source.size.width, source.size.height), size)).astype(int)


def test_other_pages_are_not_levels(tmp_path: Path) -> None:
    """Pages of a document, of the same size, of half the size, and without the mark of a reduced version."""
    page = Image.fromarray(smooth(FULL).astype(np.uint8))
    others = [Image.new("RGB", (FULL.width // 2**i, FULL.height // 2**i), "red") for i in range(3)]
    page.save(tmp_path / "pages.tif", save_all=True, append_images=others)
    for side in (2400, 1200, 600, 120):
        small = Size(side, side * 2 // 3)
        assert np.abs(seen(tmp_path / "pages.tif", small) - smooth(small)).max() < 12
    others[0].save(tmp_path / "moving.gif", save_all=True, append_images=[page.resize(others[0].size)])
    assert np.abs(seen(tmp_path / "moving.gif", Size(60, 40)) - (255, 0, 0)).max() < 9
    others[0].save(tmp_path / "moving.webp", save_all=True, append_images=[page.resize(others[0].size)])
    assert np.abs(seen(tmp_path / "moving.webp", Size(60, 40)) - (255, 0, 0)).max() < 9


def test_a_reduced_version_of_another_aspect_ratio_is_not_a_level(tmp_path: Path) -> None:
    """A square preview, as cameras add it."""
    page = Image.fromarray(smooth(FULL).astype(np.uint8))
    preview = Image.new("RGB", (300, 300), "red")
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    page.save(tmp_path / "camera.tif", save_all=True, append_images=[preview])
    assert np.abs(seen(tmp_path / "camera.tif", Size(60, 40)) - smooth(Size(60, 40))).max() < 12


PYRAMIDS: dict[str, dict[str, Any]] = {
    "16 bits": {},
    "CMYK": {},
    "transparency": {},
    "grey": {},
    "Display P3": {"profile": "p3"},
    "turned": {},
}


@pytest.mark.parametrize("inner", [False, True], ids=["pages", "pages in a page"])
@pytest.mark.parametrize("kind", PYRAMIDS)
def test_every_level_of_a_pyramid_looks_like_the_full_picture(tmp_path: Path, kind: str, inner: bool) -> None:
    values = smooth(FULL).round().astype(np.uint8)
    expected = smooth(FULL)
    image = image_of(values)
    if kind == "16 bits":
        image = image_of(values.astype(np.uint16) * 257, "rgb16")
    elif kind == "CMYK":
        image = image_of(np.concatenate([255 - values, np.zeros_like(values[..., :1])], -1), "cmyk")
    elif kind == "transparency":
        image = image_of(np.concatenate([values, np.full_like(values[..., :1], 51)], -1))
        expected = 255 - (255 - expected) / 5
    elif kind == "grey":
        image, expected = image_of(values[..., :1], "b-w"), expected[..., :1].repeat(3, -1)
    elif kind == "turned":
        image.set_type(pyvips.GValue.gint_type, "orientation", 6)
        expected = np.rot90(expected, -1)
    path = tmp_path / "pyramid.tif"
    options = {"tile": True, "pyramid": True, "subifd": inner, "compression": "deflate"} | PYRAMIDS[kind]
    image.tiffsave(str(path), **options)
    source = open_file(path)
    assert isinstance(source, PyramidFile)
    assert len(source.levels) == 6, "the file's own"
    if kind in ("CMYK", "Display P3"):
        expected = seen(path, source.size)
    for factor in (1, 2, 4, 8, 16):
        size = Size(source.size.width // factor, source.size.height // factor)
        small = np.asarray(
            Image.fromarray(expected.round().astype(np.uint8)).resize((size.width, size.height), Image.Resampling.BOX)
        )
        assert np.abs(seen(path, size) - small)[2:-2, 2:-2].max() < 14, factor
    if kind == "Display P3":
        assert np.abs(expected - smooth(FULL)).max() > 20, "converted"


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "jpg"])
@pytest.mark.parametrize("packed", [False, True])
def test_deep_zoom_tiles_of_any_format(tmp_path: Path, name: str, packed: bool) -> None:
    values = smooth(Size(600, 400)).round().astype(np.uint8)
    quality = "" if name == "png" else "[Q=95]"
    image_of(values).dzsave(str(tmp_path / "map"), suffix=f".{name}{quality}")
    path = tmp_path / "map.dzi"
    if packed:
        with zipfile.ZipFile(tmp_path / "map.zip", "w") as archive:
            for file in (path, *(tmp_path / "map_files").rglob("*.*")):
                archive.write(file, file.relative_to(tmp_path))
        path = tmp_path / "map.zip"
    for size in (Size(600, 400), Size(75, 50)):
        assert np.abs(seen(path, size) - smooth(size))[2:-2, 2:-2].max() < 14


def test_deep_zoom_tiles_with_transparency_and_16_bits(tmp_path: Path) -> None:
    values = np.full((40, 60, 4), 32768, np.uint16)
    image_of(values, "rgb16").dzsave(str(tmp_path / "map"), suffix=".png[bitdepth=16]")
    assert np.abs(seen(tmp_path / "map.dzi", Size(60, 40)) - 191).max() <= 2


@pytest.mark.parametrize(
    "change", [('TileSize="254"', 'TileSize="0"'), ('Format="jpg"', 'Format="../../x"'), ('Width="60"', 'Width="0"')]
)
def test_an_invalid_deep_zoom_description_is_reported(tmp_path: Path, change: tuple[str, str]) -> None:
    image_of(picture(60, 40)).dzsave(str(tmp_path / "map"), suffix=".jpg")
    text = (tmp_path / "map.dzi").read_text()
    assert change[0] in text
    (tmp_path / "map.dzi").write_text(text.replace(*change))
    with pytest.raises(PictureError, match="not a DeepZoom picture"):
        open_file(tmp_path / "map.dzi")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_viewing_leaves_no_temporary_files(tmp_path: Path, number: signal.Signals) -> None:
    """For a large picture without levels, temporary ones are made while it is open, however that ends."""
    image_of(smooth(FULL).astype(np.uint8)).pngsave(str(tmp_path / "large.png"))
    (tmp_path / "tmp").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from pixelsmith.viewer import open_file\n"
        "from pixelsmith.geometry import Size; found = open_file(Path(sys.argv[1]))\n"
        "found.look((0, 0, 2400, 1600), Size(24, 16)); print('open', flush=True); time.sleep(60)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_colour_profile_of_the_compared_picture_is_used(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (234, 51, 34)).save(tmp_path / "p3.png", icc_profile=profile("p3"))
    assert np.abs(seen(tmp_path / "p3.png", Size(8, 8)) - (255, 0, 0)).max() < 4
