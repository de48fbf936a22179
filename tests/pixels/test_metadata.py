"""Metadata of photos is kept: written by libvips and this package, and read with Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, IptcImagePlugin

from pixelsmith.canvas import Array
from pixelsmith.errors import PictureError
from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.pixels.files import check_output, write_picture
from pixelsmith.pixels.geotiff import enlarged_geo
from pixelsmith.pixels.metadata import Metadata, iptc_in, read_metadata
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.resample import Resized
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.tags import Tags, Value, add_tags, exif_of, exif_tags, read_tags
from tests.pixels.odd import linear_grey, picture, tags, write_tiff
from tests.pixels.photos import DESCRIPTION, IPTC, resources, write_map, write_photo
from tests.pixels.test_files import written

BIG = Size(192, 256)
PIXELS = torch.randint(0, 256, (3, 256, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SETTINGS = {"pixelsmith": "1", "request": {"prompt": 'a "boat"'}}

values = st.one_of(
    st.lists(st.integers(0, 65535), min_size=1, max_size=9).map(lambda numbers: Value.short(*numbers)),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5).map(lambda numbers: Value.long(*numbers)),
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5).map(lambda numbers: Value.double(*numbers)),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20).map(Value.ascii),
    st.binary(min_size=1, max_size=40).map(Value.blob),
    st.binary(min_size=8, max_size=8).map(lambda content: Value(5, content)),
)
directories = st.dictionaries(st.integers(40_000, 40_100), values, max_size=6)


@given(directories, st.none() | directories, st.none() | directories)
def test_exif_tags_round_trip(first: Tags, inner: Tags | None, places: Tags | None) -> None:
    whole = {**first, **({} if inner is None else {34665: inner}), **({} if places is None else {34853: places})}
    assert exif_tags(exif_of(whole)) == whole
    assert exif_tags(b"Exif\0\0" + exif_of(whole)) == whole


@given(st.binary(max_size=60), st.integers(0, 200), directories)
def test_damaged_exif_is_ignored(noise: bytes, place: int, first: Tags) -> None:
    content = bytearray(exif_of({**first, 34665: {36867: Value.ascii("2020:01:02 03:04:05")}}))
    content[place : place + len(noise)] = noise
    assert isinstance(exif_tags(bytes(content)), dict)
    assert isinstance(exif_tags(bytes(noise)), dict)
    assert isinstance(iptc_in(noise), bytes)
    assert isinstance(iptc_in(b"8BIM" + noise), bytes)


@pytest.mark.parametrize("big", [False, True])
def test_adding_tags_to_a_tiff_changes_nothing_else(tmp_path: Path, big: bool) -> None:
    path = tmp_path / "a.tif"
    image = pyvips.Image.new_from_array(picture())
    image.tiffsave(str(path), bigtiff=big, pyramid=True, tile=True, tile_width=64, tile_height=64)
    before = path.read_bytes()
    exif = {36867: Value.ascii("2020:01:02 03:04:05")}
    add_tags(
        path,
        {
            271: Value.ascii("Canon"),
            33550: Value.double(1.5, 2.5, 0.0),
            282: Value(5, struct.pack("<II", 5, 2)),
            34665: exif,
        },
    )
    assert path.read_bytes()[16 : len(before)] == before[16:]
    with Image.open(path) as opened:
        assert (np.asarray(opened) == picture()).all()
        assert (opened.tag_v2[271], opened.tag_v2[33550], opened.tag_v2[282]) == ("Canon", (1.5, 2.5, 0.0), 2.5)  # type: ignore[attr-defined]
        assert opened.n_frames == 2  # type: ignore[attr-defined]
        assert opened.getexif().get_ifd(34665)[36867] == "2020:01:02 03:04:05"
    assert pyvips.Image.new_from_file(str(path), page=1).width == 64


def test_tags_are_added_in_the_byte_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    directory = struct.pack(">HHHIHxxHHIHxxHHIHxxHHII", 4, 256, 3, 1, 1, 257, 3, 1, 1, 258, 3, 1, 8, 273, 4, 1, 8)
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8) + directory + bytes(4))
    add_tags(path, {271: Value.ascii("Canon"), 33550: Value.double(1.5, 2.5, 0.0)})
    with path.open("rb") as file:
        found = read_tags(file)
    assert found[33550] == Value.double(1.5, 2.5, 0.0)
    assert found[256] == Value.short(1)
    assert path.read_bytes()[-200:].count(struct.pack(">d", 2.5)) == 1


def read_back(path: Path) -> dict[str, Any]:
    """The metadata that Pillow reads from a file."""
    with Image.open(path) as image:
        exif, inner = image.getexif(), image.getexif().get_ifd(ExifTags.IFD.Exif)
        places = image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        iptc: dict[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        base = ExifTags.Base
        return {
            "description": exif.get(base.ImageDescription), "make": exif.get(base.Make),
            "copyright": exif.get(base.Copyright), "orientation": exif.get(base.Orientation, 1),
            "dpi": image.info.get("dpi", (exif.get(base.XResolution), exif.get(base.YResolution))),
            "taken": inner.get(base.DateTimeOriginal), "exposure": inner.get(base.ExposureTime),
            "size": (inner.get(base.ExifImageWidth), inner.get(base.ExifImageHeight)),
            "colours": inner.get(base.ColorSpace), "places": dict(places), "iptc": iptc.get((2, 120)),
            "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
        }  # fmt: skip


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tif", "tiff", *written("avif")])
@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tif"])
def test_metadata_of_a_photo_is_kept(tmp_path: Path, source: str, target: str) -> None:
    photo, made = write_photo(tmp_path / f"photo.{source}"), tmp_path / f"big.{target}"
    about = read_metadata(photo).of([Size(96, 128), BIG])
    check_output(made, BIG, SETTINGS, about)
    write_picture(Array(PIXELS), made, SETTINGS, about=about)
    found = read_back(made)
    assert (found["make"], found["copyright"], found["taken"]) == ("Canon", "(c) Jane", "2020:01:02 03:04:05")
    assert float(found["exposure"]) == pytest.approx(1 / 125)
    assert found["places"][1] == "N"
    assert [float(number) for number in found["places"][2]] == [48.0, 8.0, 12.5]
    assert found["description"].encode("latin-1").decode() == DESCRIPTION
    assert (found["orientation"], found["size"], found["colours"]) == (1, (192, 256), 1), "upright, enlarged, sRGB"
    if source != "webp":
        assert float(found["dpi"][0]) == pytest.approx(240, rel=2e-4)
    assert b'tiff:Orientation="1"' in found["xmp"]
    assert b"<exif:PixelXDimension>192</exif:PixelXDimension>" in found["xmp"]
    assert b"xmp:Rating='5'" in found["xmp"]
    assert b"<dc:rights>Jane</dc:rights>" in found["xmp"]
    if source in ("jpg", "tif") and target in ("jpg", "tif", "tiff"):
        assert found["iptc"] == b"A red boat"
    assert read_settings(made) == SETTINGS, "beside the description of the photo"
    assert read_picture(made).size == BIG
    again = read_metadata(made)
    assert again.description == about.description
    assert again.exif.get(34665) is not None
    assert "pixelsmith" not in str(again.exif), "how a picture was made is not said of what is made from it"


@pytest.mark.parametrize("target", ["jpg", "png", "tif"])
def test_without_metadata_none_is_written(tmp_path: Path, target: str) -> None:
    path = tmp_path / f"plain.{target}"
    write_picture(Array(PIXELS), path, SETTINGS)
    found = read_back(path)
    assert (found["make"], found["taken"], found["iptc"], found["xmp"], found["places"]) == (None, None, None, b"", {})
    assert float(found["dpi"][0]) == pytest.approx(300, rel=2e-4)
    assert read_metadata(path).of([BIG, BIG]).description is None


def test_thumbnails_are_not_kept(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "photo.jpg")
    small = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(small, "JPEG")
    with Image.open(photo) as image:
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.IFD1).update({259: 6, 513: 0, 514: len(small.getvalue())})
        image.save(tmp_path / "with.jpg", exif=exif.tobytes() + small.getvalue())
    write_picture(Array(PIXELS), tmp_path / "big.jpg", SETTINGS, about=read_metadata(tmp_path / "with.jpg").of([BIG]))
    with Image.open(tmp_path / "big.jpg") as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("what", ["exif", "xmp", "iptc"])
def test_metadata_that_does_not_fit_into_a_jpeg_is_reported_before_the_work(what: str) -> None:
    long: dict[str, Any] = {"exif": {315: Value.ascii("x" * 70_000)}, "xmp": b"x" * 70_000, "iptc": b"\x1c" * 70_000}
    about = Metadata(**{what: long[what]})
    with pytest.raises(PictureError, match=r"--strip"):
        check_output(Path("a.jpg"), BIG, SETTINGS, about)
    check_output(Path("a.png"), BIG, SETTINGS, about)
    check_output(Path("a.tif"), BIG, SETTINGS, about)


@pytest.mark.parametrize("name", ["plain.png", "grey.tif"])
def test_a_picture_without_metadata_has_none(tmp_path: Path, name: str) -> None:
    if name == "plain.png":
        Image.fromarray(picture()).save(tmp_path / name)
    else:
        write_tiff(
            tmp_path / name, [picture()[..., 0].tobytes()], tags(1, photometric=1, t34675=(7, list(linear_grey())))
        )
    assert read_metadata(tmp_path / name) == Metadata()


def test_iptc_is_found_among_other_resources() -> None:
    assert iptc_in(b"Photoshop 3.0\0" + resources(IPTC)) == iptc_in(resources(IPTC)) == IPTC
    assert iptc_in(resources(IPTC)[:-40]) != IPTC


numbers = st.floats(-1e6, 1e6)
sizes = st.builds(Size, st.integers(20, 90), st.integers(20, 90))


larger = st.builds(Size, st.integers(90, 160), st.integers(90, 160))


@given(sizes, st.lists(larger, min_size=1, max_size=3), st.sampled_from(["scale", "points", "matrix"]), st.booleans())
def test_every_place_keeps_its_coordinates(size: Size, targets: list[Size], how: str, point: bool) -> None:
    """Compared with the resampling itself: a ramp shows from which position of the start picture a pixel comes."""
    keys = Value.short(1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1)
    turned = [3.0, 1.0, 0, 700, 0.5, -2.0, 0, 900, 0, 0, 1, 0, 0, 0, 0, 1]
    tags = {
        "scale": {33550: Value.double(3, 2, 1), 33922: Value.double(4, 5, 0, 700, 900, 0)},
        "points": {33922: Value.double(4, 5, 0, 700, 900, 0, 14, 5, 0, 730, 900, 0)},
        "matrix": {34264: Value.double(*turned)},
    }[how] | {34735: keys}  # fmt: skip

    def world(tags: Tags, x: float, y: float) -> tuple[float, float]:
        """The coordinates of a position, in pixels from the corner of the picture."""
        column, row = (x - 0.5, y - 0.5) if point else (x, y)
        found = {tag: value.numbers for tag, value in tags.items() if isinstance(value, Value)}
        if how == "matrix":
            m = np.array(found[34264]).reshape(4, 4) @ [column, row, 0, 1]
            return float(m[0]), float(m[1])
        i, j, _, east, north, _ = found[33922][:6]
        if how == "scale":
            across, down, _ = found[33550]
            return east + (column - i) * across, north - (row - j) * down
        across = (found[33922][9] - east) / (found[33922][6] - i)
        return east + (column - i) * across, north - (row - j) * across

    ramps = torch.stack(
        [
            (torch.arange(size.width) + 0.5).expand(size.height, -1),
            (torch.arange(size.height) + 0.5)[:, None].expand(-1, size.width),
        ]
    ).contiguous()
    seen = Resized(Array(ramps), size, targets[-1], "bicubic", via=tuple(targets[:-1]))
    now = enlarged_geo(tags, [size, *targets])
    last = targets[-1]
    y, x = last.height // 2, last.width // 2
    from_x, from_y = seen.read(Window(y, x, 1, 1)).flatten().tolist()
    assert world(now, x + 0.5, y + 0.5) == pytest.approx(world(tags, from_x, from_y), abs=0.05)


@pytest.mark.parametrize("matrix", [False, True])
@pytest.mark.parametrize("suffix", ["tif", "tiff"])
def test_a_geotiff_keeps_its_coordinates(tmp_path: Path, suffix: str, matrix: bool) -> None:
    source, made = write_map(tmp_path / "map.tif", matrix=matrix), tmp_path / f"big.{suffix}"
    about = read_metadata(source).of([Size(128, 96), Size(512, 384)])
    write_picture(Array(torch.zeros(3, 384, 512, dtype=torch.uint8)), made, SETTINGS, about=about)
    with Image.open(made) as image:
        found = dict(image.tag_v2)  # type: ignore[attr-defined]
    if matrix:
        assert found[34264][:8] == pytest.approx((2.5, 0, 0, 500000, 0, -2.5, 0, 5300000))
    else:
        assert found[33550] == pytest.approx((2.5, 2.5, 0))
        assert found[33922] == pytest.approx((0, 0, 0, 500000, 5300000, 0))
    assert found[34735][-4:] == (3072, 0, 1, 32632)
    assert found[34736] == (0.0, 1.5)
    assert found[34737] == "WGS 84 / UTM zone 32N|"
    assert read_settings(made) == SETTINGS


def test_a_geotiff_of_pixel_centres_keeps_its_corners(tmp_path: Path) -> None:
    """The first centre is half a pixel inside, also when pixels are four times smaller."""
    about = read_metadata(write_map(tmp_path / "map.tif", point=True)).of([Size(128, 96), Size(512, 384)])
    scale, points = about.geo[33550], about.geo[33922]
    assert isinstance(scale, Value)
    assert isinstance(points, Value)
    assert scale.numbers == (2.5, 2.5, 0)
    # The first centre of the new picture is 3/8 of an old pixel from the old one, to the upper left.
    i, j, _, east, north, _ = points.numbers
    assert (east - i * 2.5, north + j * 2.5) == pytest.approx((500000 - 3.75, 5300000 + 3.75))


def test_a_rotated_geotiff_loses_its_coordinates_with_a_warning(tmp_path: Path) -> None:
    about = read_metadata(write_map(tmp_path / "map.tif", orientation=6)).of([Size(96, 128), Size(192, 256)])
    assert about.unplaced
    assert not about.has_place


def test_a_wrapping_geotiff_is_stretched_and_keeps_its_coordinates() -> None:
    tags: Tags = {33550: Value.double(1.0, 1.0, 0.0), 33922: Value.double(0, 0, 0, 10, 50, 0)}
    now = enlarged_geo(tags, [Size(100, 50), Size(252, 128)], Wrap(x=True))
    scale, tiepoint = now[33550], now[33922]
    assert isinstance(scale, Value)
    assert isinstance(tiepoint, Value)
    across, down, _ = scale.numbers
    assert across == pytest.approx(100 / 252)
    assert down == pytest.approx(50 / 128)
    assert tiepoint.numbers[0] == 0
