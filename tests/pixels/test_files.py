from __future__ import annotations

import os
import re
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import ExifTags, Image, ImageSequence

from pixelsmith.canvas import Array
from pixelsmith.errors import OutputError, PictureError
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels import formats
from pixelsmith.pixels.files import check_output, write_picture
from pixelsmith.pixels.metadata import Metadata
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.reading import picture_size, read_picture
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.viewer import open_file

PIXELS = torch.randint(0, 256, (3, 30, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"pixelsmith": "1", "request": {"prompt": 'a "map" of Zürich, 東京 & <so on>' * 40, "seed": 2**63}}


def written(*suffixes: str) -> list[Any]:
    """Formats that only some builds of libvips write."""
    known = [f".{suffix}" in formats.FORMATS for suffix in suffixes]
    return [
        pytest.param(suffix, marks=pytest.mark.skipif(not there, reason=f"this libvips writes no .{suffix}"))
        for suffix, there in zip(suffixes, known, strict=True)
    ]


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "jpeg", "tif", "tiff", "PNG", "webp", "dzi", "zip", *written("avif", "jxl")]
)
def test_settings_are_read_back_from_every_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    write_picture(Array(PIXELS), path, SETTINGS)
    assert read_settings(path) == SETTINGS
    if suffix not in ("dzi", "zip"):
        assert picture_size(path) == Size(50, 30)
    beside = ["picture_files"] if suffix == "dzi" else []
    assert sorted(item.name for item in tmp_path.iterdir()) == [path.name, *beside], "no partial file may stay"


@pytest.mark.parametrize("dpi", [72.0, 150.0, 300.0])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "tiff", "webp", *written("avif")])
def test_files_contain_the_print_resolution(tmp_path: Path, suffix: str, dpi: float) -> None:
    path = tmp_path / f"print.{suffix}"
    write_picture(Array(PIXELS), path, SETTINGS, about=Metadata(dpi=dpi))
    with Image.open(path) as image:
        exif = image.getexif()
        said = image.info.get("dpi", (exif.get(ExifTags.Base.XResolution), exif.get(ExifTags.Base.YResolution)))
    # PNG counts whole dots a metre.
    assert [float(one) for one in said] == pytest.approx([dpi, dpi], rel=2e-4 if suffix == "png" else 1e-6)


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
def test_lossless_formats_keep_every_pixel_and_the_same_picture_gives_the_same_bytes(
    tmp_path: Path, suffix: str
) -> None:
    paths = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for path in paths:
        write_picture(Array(PIXELS), path, SETTINGS)
    assert torch.equal(read_picture(paths[0]).read(Size(50, 30).window), PIXELS)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_format_that_libvips_cannot_write_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {suffix: kind for suffix, kind in formats.FORMATS.items() if suffix not in (".jxl", ".avif")}
    monkeypatch.setattr("pixelsmith.pixels.files.FORMATS", known)
    for suffix in (".jxl", ".avif"):
        with pytest.raises(PictureError, match=rf"this libvips cannot write \{suffix}; choose \.png, "):
            check_output(Path(f"a{suffix}"), Size(9, 9), SETTINGS)


@pytest.mark.parametrize("name", ["picture.gif", "picture", "no/such/folder/picture.png", "folder.png"])
def test_an_unwritable_output_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError):
        check_output(tmp_path / name, Size(10, 10), SETTINGS)


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PictureError, match="cannot be written"), Output(tmp_path / "picture.png"):
        pass


def band(width: int) -> Array:
    """A picture of two rows."""
    return Array(torch.zeros(3, 2, width, dtype=torch.uint8))


@pytest.mark.parametrize(("suffix", "limit"), [("jpg", 65_500), ("webp", 16_383), ("avif", 16_384)])
def test_the_error_for_too_large_a_picture_names_formats_without_that_limit(
    tmp_path: Path, suffix: str, limit: int
) -> None:
    """It is the limit of what writes the file, not of what its standard says: a run of hours must not end at it."""
    if f".{suffix}" not in formats.FORMATS:
        pytest.skip(f"this libvips writes no .{suffix}")
    path = tmp_path / f"wide.{suffix}"
    check_output(path, Size(limit, 2), SETTINGS)
    write_picture(band(limit), path, SETTINGS)
    assert picture_size(path) == Size(limit, 2)
    with pytest.raises(OutputError):
        write_picture(band(limit + 1), path, SETTINGS)
    with pytest.raises(PictureError, match=rf"{limit:,} pixels.*\.tif, \.dzi, \.zip or \.png"):
        check_output(path, Size(limit + 1, 2), SETTINGS)


@pytest.mark.parametrize("suffix", ["tif", "dzi", "zip", "png"])
def test_formats_for_any_size_exceed_the_limits_of_others(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"wide.{suffix}"
    check_output(path, Size(70_000, 2), SETTINGS)
    write_picture(band(70_000), path, SETTINGS)
    assert open_file(path).size == Size(70_000, 2)


def test_a_plain_tiff_has_no_pyramid_and_at_most_four_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "plain.tiff"
    write_picture(Array(torch.zeros(3, 600, 1100, dtype=torch.uint8)), path, SETTINGS)
    assert path.read_bytes()[:4] == b"II*\0", "not BigTIFF, which many programs do not know"
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 1
    check_output(path, Size(37_000, 37_000), SETTINGS)
    with pytest.raises(PictureError, match=r"1,385 megapixels, not 38000x38000.*\.tif, \.dzi, \.zip or \.png"):
        check_output(path, Size(38_000, 38_000), SETTINGS)


def test_a_tiff_is_a_tiled_pyramid_and_a_large_one_is_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = torch.zeros(3, 600, 1100, dtype=torch.uint8)
    wide[:, 100:300, 200:900] = 200
    compressions = []
    for limit in (formats.LARGE, 1000):
        monkeypatch.setattr(formats, "LARGE", limit)
        path = tmp_path / f"{limit}.tif"
        write_picture(Array(wide), path, SETTINGS)
        with Image.open(path) as image:
            sizes = [(frame.width, frame.height) for frame in ImageSequence.Iterator(image)]
            compressions.append(image.info["compression"])
        assert sizes == [(1100, 600), (550, 300), (275, 150), (137, 75)]
        assert read_settings(path) == SETTINGS
        assert (read_picture(path).read(Size(1100, 600).window).int() - wide.int()).abs().max() < 12
    assert compressions[0] != compressions[1] == "jpeg"


@pytest.mark.parametrize("suffix", ["dzi", "zip"])
def test_deep_zoom_has_a_tile_for_every_level(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"map.{suffix}"
    write_picture(Array(PIXELS), path, SETTINGS)
    if suffix == "zip":
        names = [name.removeprefix("map/") for name in zipfile.ZipFile(path).namelist()]
    else:
        names = [item.relative_to(tmp_path).as_posix() for item in tmp_path.rglob("*")]
    assert {f"map_files/{level}/0_0.jpg" for level in range(7)} <= set(names)
    write_picture(Array(PIXELS), path, SETTINGS)
    assert read_settings(path) == SETTINGS


def test_settings_too_long_for_a_jpeg_are_refused_before_any_work() -> None:
    long = {"request": {"prompt": "x" * 70_000}}
    with pytest.raises(PictureError, match="too long"):
        check_output(Path("long.jpg"), Size(10, 10), long)
    check_output(Path("long.png"), Size(10, 10), long)


@pytest.mark.parametrize("about", [Metadata(xmp=b"x" * 70_000), Metadata(iptc=b"x" * 70_000)])
def test_the_error_for_metadata_too_long_for_a_jpeg_names_them(about: Metadata) -> None:
    with pytest.raises(PictureError, match=r"long\.jpg: the picture's XMP or IPTC is too long for it; .*--strip"):
        check_output(Path("long.jpg"), Size(10, 10), {}, about)
    check_output(Path("long.png"), Size(10, 10), {}, about)


def test_files_that_are_not_pictures_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    for path in (text, tmp_path / "missing.png"):
        with pytest.raises(PictureError):
            picture_size(path)
    cut = tmp_path / "cut.png"
    write_picture(Array(PIXELS), cut, SETTINGS)
    cut.write_bytes(cut.read_bytes()[:-2000])
    with pytest.raises(PictureError, match="damaged"):
        read_picture(cut)
    assert picture_size(cut) == Size(50, 30), "the header is whole"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    Image.fromarray(np.broadcast_to(ramp, (4, 256)).copy()).save(path)
    row = read_picture(path).read(Size(256, 4).window)[0, 0]
    assert (row.int() - torch.arange(256)).abs().max() <= 1


def test_pixels_without_a_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(PictureError, match="8 or 16 bits"):
        read_picture(tmp_path / "float.tif")
    pyvips.Image.black(4, 4, bands=3).cast("float").copy(interpretation="scrgb").tiffsave(str(tmp_path / "linear.tif"))
    with pytest.raises(PictureError, match="floats without a colour profile"):
        read_picture(tmp_path / "linear.tif")


def test_a_picture_without_settings_gives_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(PIXELS.permute(1, 2, 0).numpy()).save(path)
    with pytest.raises(PictureError, match="no Pixelsmith settings"):
        read_settings(path)


def test_photos_are_rotated_upright_and_transparency_becomes_white(tmp_path: Path) -> None:
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS.permute(1, 2, 0).numpy()).save(turned, exif=exif)
    assert picture_size(turned) == read_picture(turned).size == Size(30, 50)
    clear = tmp_path / "clear.png"
    Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(clear)
    assert read_picture(clear).read(Size(4, 4).window).min() == 255


def test_a_folder_that_only_resembles_tiles_is_not_replaced(tmp_path: Path) -> None:
    """Browsers save a page as ``holiday.html`` and ``holiday_files``."""
    (tmp_path / "holiday_files").mkdir()
    (tmp_path / "holiday_files" / "photo.jpg").write_text("mine")
    with pytest.raises(PictureError, match="something else"):
        check_output(tmp_path / "holiday.dzi", Size(10, 10), SETTINGS)
    write_picture(Array(PIXELS), tmp_path / "map.dzi", SETTINGS)
    check_output(tmp_path / "map.dzi", Size(10, 10), SETTINGS)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("suffix", ["tif", "png", "zip"])
def test_ctrl_c_ends_writing_and_leaves_no_files(tmp_path: Path, suffix: str) -> None:
    size, read, raised = Size(64, 100_000), list[Window](), threading.Event()

    class Interrupted:
        @property
        def size(self) -> Size:
            return size

        def read(self, window: Window) -> torch.Tensor:
            read.append(window)
            if len(read) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                assert raised.wait(60)
                time.sleep(0.2)
            return torch.zeros(3, window.height, window.width, dtype=torch.uint8)

    def interrupt(*_: object) -> None:
        raised.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_picture(Interrupted(), tmp_path / f"map.{suffix}", SETTINGS)
    finally:
        signal.signal(signal.SIGINT, before)
    assert 3 <= len(read) <= 6
    assert list(tmp_path.iterdir()) == []


def test_a_deep_zoom_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "map.dzi"
    write_picture(Array(torch.zeros(3, 600, 600, dtype=torch.uint8)), path, SETTINGS)
    write_picture(Array(PIXELS), path, SETTINGS)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["map.dzi", "map_files"]
    assert len(list((tmp_path / "map_files").iterdir())) == 8, "seven levels and the settings"
    shown = open_file(path).look((0, 0, 50, 30), Size(50, 30))
    assert np.asarray(shown).mean() > 100, "the new picture"


def test_a_damaged_archive_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "map.zip").write_bytes(b"PK no archive")
    with pytest.raises(PictureError, match="no Pixelsmith settings"):
        read_settings(tmp_path / "map.zip")


def test_an_encrypted_archive_is_not_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "map.zip"
    write_picture(Array(PIXELS), path, SETTINGS)
    # The flag of encryption, in the headers of files and in the list of them.
    heads = re.compile(rb"(PK\x03\x04..|PK\x01\x02....)\x00", re.DOTALL)
    path.write_bytes(heads.sub(lambda head: head[1] + b"\x01", path.read_bytes()))
    with pytest.raises(PictureError, match="no Pixelsmith settings"):
        read_settings(path)
    with pytest.raises(PictureError, match="encrypted"):
        open_file(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "dzi", "zip"])
def test_a_missing_file_is_reported(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(PictureError, match=r"nothere\.\w+: there is no such file"):
        read_settings(tmp_path / f"nothere.{suffix}")


def test_settings_with_a_very_long_prompt_are_read_back(tmp_path: Path) -> None:
    settings = {"request": {"prompt": "x" * 2_000_000}}
    for suffix in ("png", "tif"):
        write_picture(Array(PIXELS), tmp_path / f"a.{suffix}", settings)
        assert read_settings(tmp_path / f"a.{suffix}") == settings


def test_damaged_exif_has_no_settings_and_gives_no_warning(tmp_path: Path) -> None:
    write_picture(Array(PIXELS), tmp_path / "a.jpg", SETTINGS)
    content = (tmp_path / "a.jpg").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    for place in range(start, start + 60):
        (tmp_path / "a.jpg").write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        try:
            assert read_settings(tmp_path / "a.jpg") == SETTINGS
        except PictureError as error:
            assert "no Pixelsmith settings" in str(error)  # noqa: PT017 (either is right)


def test_a_deep_zoom_picture_of_another_program_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "x.dzi").write_text(
        '<Image TileSize="254" Overlap="1" Format="jpg"><Size Width="9" Height="9"/></Image>'
    )
    with pytest.raises(PictureError, match=r"x\.dzi: there are no Pixelsmith settings inside"):
        read_settings(tmp_path / "x.dzi")


def test_too_deeply_nested_settings_are_ignored(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("pixelsmith.json", "[" * 200_000)
    with pytest.raises(PictureError, match="there are no Pixelsmith settings inside"):
        read_settings(tmp_path / "x.zip")
