"""Reading of picture files: colours, orientation, and detection of damage."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from pixelsmith import PictureError, Size
from pixelsmith.canvas import Array
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import write_picture
from pixelsmith.pixels.reading import picture_size, read_picture
from pixelsmith.viewer import open_file
from tests.pixels.odd import (
    HEIGHT,
    WIDTH,
    damaged,
    linear_grey,
    noisy,
    picture,
    profile,
    tags,
    write_tiff,
)

RGB = picture()
SIXTEEN = RGB.astype("<u2") * 257
FOURTH = np.full((HEIGHT, WIDTH, 1), 30, np.uint8)
INKS = np.concatenate([255 - RGB, np.zeros_like(FOURTH)], -1)
PLAIN = (100, 20, 60)
CLEAR = (237, 227, 232)
"""The same, of which 30 parts in 255 are there, over white."""


def colour_of(path: Path) -> tuple[int, ...]:
    """Of the pixel (50, 10), which the viewer must show alike."""
    read = read_picture(path)
    found = tuple(read.read(Window(10, 50, 1, 1)).flatten().tolist())
    assert picture_size(path) == read.size
    source = open_file(path)
    assert source.size == read.size
    shown = np.asarray(source.look((50, 10, 51, 11), Size(1, 1)))[0, 0]
    assert np.abs(shown.astype(int) - found).max() <= (0 if max(read.size.width, read.size.height) <= 1024 else 12)
    return found


def near(found: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 3) -> bool:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True)) <= tolerance


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_display_p3_is_converted(tmp_path: Path, suffix: str) -> None:
    """The numbers of sRGB's red, green and blue in Display P3."""
    for stored, meant in [((234, 51, 34), (255, 0, 0)), ((117, 251, 76), (0, 255, 0)), ((0, 0, 245), (0, 0, 255))]:
        path = tmp_path / f"p3.{suffix}"
        options: dict[str, Any] = {"jpg": {"quality": 100}, "avif": {"quality": 100}, "webp": {"lossless": True}}
        Image.new("RGB", (64, 64), stored).save(path, icc_profile=profile("p3"), **options.get(suffix, {}))
        assert near(colour_of(path), meant, 6), stored


@pytest.mark.parametrize("mode", ["RGBA", "16 bits"])
def test_a_colour_profile_applies_to_the_colours_only(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "p3.png"
    if mode == "RGBA":
        Image.new("RGBA", (64, 64), (234, 51, 34, 128)).save(path, icc_profile=profile("p3"))
        assert near(colour_of(path), (255, 127, 127))
    else:
        image = pyvips.Image.new_from_array(np.full((64, 64, 3), (60138, 13107, 8738), np.uint16))
        image = image.copy(interpretation="rgb16")
        image.pngsave(str(path), profile="p3", bitdepth=16)
        assert near(colour_of(path), (255, 3, 0), 6)


def test_a_grey_profile_is_converted(tmp_path: Path) -> None:
    """A fifth of the light is nearly half of sRGB."""
    path = tmp_path / "grey.png"
    Image.new("L", (64, 64), 55).save(path, icc_profile=linear_grey())
    assert near(colour_of(path), (128, 128, 128))


def test_cmyk_is_converted_with_and_without_its_profile(tmp_path: Path) -> None:
    eight = write_tiff(tmp_path / "8.tif", [INKS.tobytes()], tags(4, photometric=5))
    sixteen = write_tiff(tmp_path / "16.tif", [(INKS.astype("<u2") * 257).tobytes()], tags(4, 16, 5))
    Image.fromarray(INKS, "CMYK").save(tmp_path / "4.jpg", quality=100, icc_profile=profile("cmyk"))
    found = [colour_of(path) for path in (eight, sixteen, tmp_path / "4.jpg")]
    assert all(near(one, found[0], 4) for one in found)
    assert found[0][0] > found[0][2] > found[0][1], "red is the most, green the least"


@pytest.mark.parametrize("content", [b"nonsense" * 30, None])
def test_an_invalid_or_unfitting_colour_profile_is_ignored(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "grey.png"
    Image.new("L", (64, 64), 100).save(path, icc_profile=content or profile("p3"))
    assert colour_of(path) == (100, 100, 100)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [({"t338": (3, [0])}, PLAIN), ({}, PLAIN), ({"t338": (3, [2])}, CLEAR)],
)
def test_a_fourth_channel_is_transparency_only_if_declared(
    tmp_path: Path, extra: dict[str, Any], expected: tuple[int, ...]
) -> None:
    """Near infrared and the like, which satellite pictures have."""
    four = np.concatenate([RGB, FOURTH], -1)
    assert near(colour_of(write_tiff(tmp_path / "4.tif", [four.tobytes()], tags(4, **extra))), expected, 1)


def ycbcr() -> np.ndarray:
    return np.asarray(Image.fromarray(RGB).convert("YCbCr"))


def test_ycbcr_is_converted_with_its_subsampling_and_range(tmp_path: Path) -> None:
    y, b, r = ycbcr().transpose(2, 0, 1)
    blocks = np.stack([y[::2, ::2], y[::2, 1::2], y[1::2, ::2], y[1::2, 1::2], b[::2, ::2], r[::2, ::2]], -1)
    whole = write_tiff(tmp_path / "1.tif", [ycbcr().tobytes()], tags(photometric=6, t530=(3, [1, 1])))
    half = write_tiff(tmp_path / "2.tif", [blocks.tobytes()], tags(photometric=6, t530=(3, [2, 2])))
    # As television has it: black is 16 and white 235.
    narrow = (ycbcr() / 255 * (219, 224, 224) + 16).round().astype(np.uint8)
    levels = [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]
    video = write_tiff(tmp_path / "3.tif", [narrow.tobytes()], tags(photometric=6, t530=(3, [1, 1]), t532=(4, levels)))
    content = video.read_bytes().replace(struct.pack("<HHI", 532, 4, 12), struct.pack("<HHI", 532, 5, 6))
    video.write_bytes(content)
    Image.fromarray(RGB).save(tmp_path / "4.tif", compression="jpeg", quality=100)
    for path in (whole, half, video, tmp_path / "4.tif"):
        assert near(colour_of(path), PLAIN, 4), path.name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "jpg", "webp"])
def test_size_and_pixels_have_the_same_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.fromarray(RGB) as image:
        image.save(path, exif=exif, **({"quality": 100} if suffix != "tif" else {"tiffinfo": {274: orientation}}))
    read = read_picture(path)
    upright = Size(WIDTH, HEIGHT) if orientation < 5 else Size(HEIGHT, WIDTH)
    assert picture_size(path) == read.size == open_file(path).size == upright
    corner = read.read(Window(0, 0, 1, 1)).flatten().tolist()
    x, y = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[orientation]
    assert near(tuple(corner), tuple(RGB[y * (HEIGHT - 1), x * (WIDTH - 1)].tolist()), 12)


def unsorted_tags(path: Path) -> Path:
    content = bytearray(write_tiff(path, [RGB.tobytes()], tags()).read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    one, other = (content[start + 2 + 12 * i : start + 14 + 12 * i] for i in (2, 5))
    content[start + 26 : start + 38], content[start + 62 : start + 74] = other, one
    path.write_bytes(content)
    return path


def tiff_of(strips: list[bytes], **others: Any) -> Callable[[Path], Path]:
    return lambda path: write_tiff(path, strips, tags(**others))


def png_with(chunk: bytes, where: bytes) -> Callable[[Path], Path]:
    """A PNG with a chunk of another program before the first of these."""

    def write(path: Path) -> Path:
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, "PNG")
        start = file.getvalue().index(where) - 4
        path.write_bytes(file.getvalue()[:start] + chunk + file.getvalue()[start:])
        return path

    return write


def jpeg_with(extra: bytes, place: int) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        file = io.BytesIO()
        Image.fromarray(RGB).save(file, "JPEG", quality=100, subsampling=0)
        content = file.getvalue()
        place_ = place % (len(content) + 1)
        path.write_bytes(content[:place_] + extra + content[place_:])
        return path

    return write


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


ROWS = [RGB[i : i + 10].tobytes() for i in range(0, HEIGHT, 10)]
DATE = list(b"2020:01:01 00:00:00")
SOUND: dict[str, Callable[[Path], Path]] = {
    "tags out of order": unsorted_tags,
    "a text without its end": tiff_of([RGB.tobytes()], t306=(2, DATE)),
    "unknown tags": tiff_of([RGB.tobytes()], t65001=(3, [7]), t34016=(3, [1])),
    "Photoshop's own": tiff_of([RGB.tobytes()], t34377=(1, [1, 2, 3, 4, 5]), t33723=(7, [1, 2, 3, 4, 5])),
    "a place that is nowhere": tiff_of([RGB.tobytes()], t34853=(4, [99_999_999])),
    "a resolution of the wrong type": tiff_of([RGB.tobytes()], t282=(3, [300]), t283=(3, [300])),
    "strips of ten rows": tiff_of(ROWS, t278=(3, [10])),
    "a last strip that is padded": tiff_of([*ROWS[:-1], ROWS[-1].ljust(3840, b"\0")], t278=(3, [10])),
    "rows without end": tiff_of([RGB.tobytes()], t278=(4, [2**32 - 1])),
    "channels apart": tiff_of([RGB[..., i].tobytes() for i in range(3)], t284=(3, [2])),
    "an old deflate": tiff_of([zlib.compress(RGB.tobytes()) + b"padding"], t259=(3, [32946])),
    "16 bits": tiff_of([SIXTEEN.tobytes()], bits=16),
    "three more channels": tiff_of([np.concatenate([RGB, RGB], -1).tobytes()], channels=6, t338=(3, [0, 0, 0])),
    "a PNG chunk with a wrong checksum": png_with(chunk(b"tEXt", b"a\0b")[:-1] + b"x", b"IDAT"),
    "a PNG profile that is none": png_with(chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nonsense")), b"IDAT"),
    "an unknown PNG chunk": png_with(chunk(b"prVt", b"abc"), b"IDAT"),
    "text after the pixels": png_with(chunk(b"tEXt", b"a\0b"), b"IEND"),
    "bytes after the end": jpeg_with(b"hello" * 100, -1),
    "bytes before the end": jpeg_with(b"\0\x12\x34" * 20, -3),
    "bytes between the tables": jpeg_with(bytes(4), 20),
    "padding": jpeg_with(b"\xff\xff", 2),
    "EXIF that leads nowhere": jpeg_with(b"\xff\xe1\0\x12Exif\0\0II*\0\xff\xff\xff\x7f\0\0", 2),
    "half a JPEG profile": jpeg_with(b"\xff\xe2\0\x1aICC_PROFILE\0\1\2nonsense!!", 2),
}


@pytest.mark.parametrize("kind", SOUND)
def test_unusual_but_valid_files_are_accepted(tmp_path: Path, kind: str) -> None:
    assert near(colour_of(SOUND[kind](tmp_path / "odd")), PLAIN, 4)


KINDS: dict[str, dict[str, Any]] = {
    "raw.tif": {}, "deflate.tif": {"compression": "deflate"}, "tiled.tif": {"compression": "deflate", "tile": True},
    "pyramid.tif": {"compression": "deflate", "tile": True, "pyramid": True}, "lzw.tif": {"compression": "lzw"},
    "jpeg.tif": {"compression": "jpeg"}, "a.png": {}, "interlaced.png": {"interlace": True}, "a.jpg": {},
    "a.avif": {}, "a.gif": {},
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("damage", ["cut", "20 bytes", "2000 bytes"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    pyvips.Image.new_from_array(noisy(640, 480)).write_to_file(str(path), **KINDS[name])
    assert read_picture(path).size == Size(640, 480)
    content = path.read_bytes()
    cut = content[: len(content) * 2 // 3]
    if name == "raw.tif":
        # Nothing tells a changed pixel from another one; a file that ends too early shows.
        cut = content[:8] + content[8:-100_000] if content[4:8] == b"\x08\0\0\0" else cut
    path.write_bytes(cut if damage == "cut" else damaged(content, int(damage.split()[0])))
    if name == "raw.tif" and damage != "cut":
        read_picture(path)
        return
    with pytest.raises(PictureError, match="damaged") as caught:
        read_picture(path)
    assert len(str(caught.value)) < len(str(path)) + 300
    assert "\n" not in str(caught.value)


def test_a_raw_tiff_whose_last_rows_are_missing_is_refused(tmp_path: Path) -> None:
    """The directory comes first, so that all but pixels is there."""
    write_tiff(tmp_path / "short.tif", [RGB.tobytes()[:20_000]], tags())
    assert picture_size(tmp_path / "short.tif") == Size(WIDTH, HEIGHT)
    with pytest.raises(PictureError, match="damaged"):
        read_picture(tmp_path / "short.tif")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.bmp", "BMP is not supported"),
        ("a.ico", "ICO is not supported"),
        ("a.ppm", "PPM is not supported"),
        ("a.jp2", "JPEG 2000 is not supported"),
        ("a.tga", "not a picture of a known kind"),
        ("a.pdf", "not a picture of a known kind"),
    ],
)
def test_other_formats_are_refused_as_unsupported(tmp_path: Path, name: str, said: str) -> None:
    Image.fromarray(RGB).save(tmp_path / name)
    for look in (picture_size, read_picture, open_file):
        with pytest.raises(PictureError, match=f"{said}; expected PNG, JPEG, TIFF, WebP, GIF or AVIF"):
            look(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a\xfa\x1f", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"],
)
def test_the_errors_for_jpeg_xl_and_heic_say_that_they_are_not_supported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content + bytes(100))
    with pytest.raises(PictureError, match=r"not supported|not of a supported kind"):
        picture_size(tmp_path / "a.png")


def test_only_picture_formats_are_read(tmp_path: Path) -> None:
    """libvips also reads tables, drawings and its own files."""
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    (tmp_path / "a.csv").write_text("1,2,3\n4,5,6\n")
    pyvips.Image.black(9, 9).write_to_file(str(tmp_path / "a.v"))
    for name in ("a.svg", "a.csv", "a.v"):
        with pytest.raises(PictureError, match="not a picture"):
            picture_size(tmp_path / name)


def test_pipes_folders_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe.dzi")
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "pipe.png", tmp_path / "folder.png", Path("/dev/zero"), tmp_path / "a\0.png"):
        with pytest.raises(PictureError, match="cannot be read"):
            picture_size(path)
    for name in ("pipe.png", "pipe.dzi", "pipe.zip"):
        with pytest.raises(PictureError):
            open_file(tmp_path / name)


@pytest.mark.parametrize("side", [2**31 - 1, 20_000_000, 1_000_000])
def test_the_error_for_a_small_file_that_declares_a_huge_picture_names_it(tmp_path: Path, side: int) -> None:
    path = tmp_path / "huge.png"
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    for look in (picture_size, read_picture, open_file):
        with pytest.raises(PictureError, match=r"huge\.png"):
            look(path)


def test_size_and_settings_are_read_from_the_header(tmp_path: Path) -> None:
    """In a process of its own: what it takes in memory does not depend on the picture."""
    path = tmp_path / "large.png"
    image = pyvips.Image.black(8000, 8000, bands=3).copy(interpretation="srgb")
    image.set_type(pyvips.GValue.gstr_type, "png-comment-0-pixelsmith", '{"request": {}}')
    image.pngsave(str(path), compression=1)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from pixelsmith.pixels.settings_inside import read_settings\n"
        "from pixelsmith.pixels.reading import picture_size\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "picture_size(Path(sys.argv[1])); read_settings(Path(sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(grown) * unit < 20_000_000


@pytest.mark.parametrize("name", [b"lat\xe9in.png", "東京.png".encode(), b"a[1].png", b"a.png[page=2]", b" .png"])
def test_files_of_any_name_are_read(tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    with path.open("wb") as file:
        Image.fromarray(RGB).save(file, "PNG")
    assert colour_of(path) == PLAIN


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "tiff", "dzi", "zip"])
def test_written_files_declare_srgb_and_are_read_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(Array(torch.from_numpy(RGB.copy()).permute(2, 0, 1)), path, {"request": {}})
    content = path.read_bytes() if suffix != "dzi" else (tmp_path / "a_files" / "7" / "0_0.jpg").read_bytes()
    assert b"acsp" in content or suffix == "png", "an ICC profile"
    if suffix == "png":
        with Image.open(path) as image:
            assert b"acsp" in image.info["icc_profile"]
    if suffix not in ("dzi", "zip"):
        assert near(colour_of(path), PLAIN, 8 if suffix in ("jpg", "webp") else 0)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    with pytest.raises(PictureError, match=r"x\.png: it is empty"):
        picture_size(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_the_error_for_an_invalid_orientation_names_it(tmp_path: Path, orientation: int) -> None:
    path = write_tiff(tmp_path / "x.tif", [RGB.tobytes()], tags(t274=(3, [orientation])))
    for look in (picture_size, read_picture, open_file):
        with pytest.raises(PictureError, match=f"its orientation is {orientation}; expected one of 1 to 8"):
            look(path)
