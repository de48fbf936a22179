"""The metadata of a picture file: EXIF, IPTC, XMP, resolution and geotransform."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyvips

from pixelsmith.config.sizes import DPI_RANGE
from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.pixels.geotiff import GEO_TAGS, enlarged_geo, has_place
from pixelsmith.pixels.reading import header
from pixelsmith.pixels.tags import EXIF, GPS, Tags, Value, exif_tags, read_tags
from pixelsmith.system.durable import open_to_read, read_object

DESCRIPTION, USER_COMMENT, XMP, IPTC = 270, 37510, 700, 33723
_ORIENTATION, _PHOTOSHOP = 274, 34377
_KEPT = (
    269, DESCRIPTION, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095, EXIF, GPS,
)  # fmt: skip
"""Tags of a picture's first directory that are about what it shows: title, maker, dates, author, rating, rights."""
_COLOUR_SPACE, _WIDTH, _HEIGHT = 40961, 40962, 40963
_SRGB = 1
_COMMENT_IS_ASCII = b"ASCII\0\0\0"
_PHOTOSHOP_NAME, _RESOURCE, _RESOURCE_IPTC = b"Photoshop 3.0\0", b"8BIM", 0x0404
_MM_PER_INCH = 25.4
_UNSAID = 72
"""Dots per inch that libvips, and many a camera, says where nothing is known of them."""
_NO_UNIT = 1.0
"""Pixels a millimetre that libvips says where a format has none."""
_DAMAGE = (OSError, ValueError, LookupError, OverflowError, struct.error)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture file.

    - ``dpi``: dots per inch; ``None`` where nothing is said.
    - ``exif``: the tags of EXIF that are about what the picture shows (not how it is stored), with its directories.
    - ``iptc``: records of IPTC-IIM; ``xmp``: a packet of XMP.
    - ``geo``: GeoTIFF's tags; ``turned``: whether the picture lies another way than its pixels, which they are of;
      ``unplaced``: whether they were left out.
    """

    dpi: float | None = None
    exif: Tags = field(default_factory=dict)
    iptc: bytes = b""
    xmp: bytes = b""
    geo: Tags = field(default_factory=dict)
    turned: bool = False
    unplaced: bool = False

    @property
    def has_place(self) -> bool:
        """Whether it says where on earth the picture is, as a map does."""
        return has_place(self.geo)

    def of(self, sizes: Sequence[Size], wrap: Wrap = NO_WRAP) -> Metadata:
        """The same for what became of the picture: upright, sRGB, ``sizes`` in turn, its own first, which ``wrap``.

        A place on earth is left out where the picture was turned, or its tags are damaged.
        """
        size = sizes[-1]
        exif = {tag: value for tag, value in self.exif.items() if tag in _KEPT}
        if exif:
            inner = exif.get(EXIF)
            now = {
                _COLOUR_SPACE: Value.short(_SRGB),
                _WIDTH: Value.long(size.width),
                _HEIGHT: Value.long(size.height),
            }
            exif[EXIF] = {**(inner if isinstance(inner, Mapping) else {}), **now}
        try:
            geo = {} if self.turned else enlarged_geo(self.geo, sizes, wrap)
        except ValueError:
            geo = {}
        lost = self.has_place and not has_place(geo)
        return replace(self, exif=exif, geo=geo, xmp=_xmp_of(self.xmp, size), turned=False, unplaced=lost)

    @property
    def description(self) -> Value | None:
        """What the picture itself is described with in EXIF."""
        found = self.exif.get(DESCRIPTION)
        return found if isinstance(found, Value) else None

    @property
    def photoshop(self) -> bytes:
        """IPTC as JPEG has it: a resource of Photoshop."""
        if not self.iptc:
            return b""
        head = _RESOURCE + struct.pack(">HHI", _RESOURCE_IPTC, 0, len(self.iptc))
        return _PHOTOSHOP_NAME + head + self.iptc + bytes(len(self.iptc) % 2)


NO_METADATA = Metadata()


def read_metadata(path: Path) -> Metadata:
    """Read the metadata of a picture file; damaged parts are skipped.

    Settings of Pixelsmith, which say how that picture was made, are left out too. Raises ``PictureError`` where it is
    no picture.
    """
    image, tags = header(path), _tiff_tags(path)
    exif = tags or exif_tags(_blob(image, "exif-data"))
    orientation = exif.get(_ORIENTATION)
    return Metadata(
        dpi=_dpi(image),
        exif=_without_settings({tag: value for tag, value in exif.items() if tag in _KEPT}),
        iptc=_tiff_iptc(tags) if tags else iptc_in(_blob(image, "iptc-data")),
        xmp=_blob(image, "xmp-data"),
        geo={tag: value for tag, value in tags.items() if tag in GEO_TAGS},
        turned=isinstance(orientation, Value) and orientation.numbers[:1] not in ((), (1,)),
    )


def texts_of(path: Path) -> list[str]:
    """What EXIF, or the tags of a TIFF, describe a picture with: its description and its comment."""
    tags = _tiff_tags(path) or exif_tags(_blob(header(path), "exif-data"))
    described = tags.get(DESCRIPTION)
    return [described.text if isinstance(described, Value) else "", comment_in(tags)]


def comment_of(text: str) -> Value:
    """A text of ASCII as EXIF's ``UserComment``."""
    return Value.blob(_COMMENT_IS_ASCII + text.encode())


def comment_in(tags: Tags) -> str:
    """The text of EXIF's ``UserComment``, where there is one."""
    inner = tags.get(EXIF)
    value = inner.get(USER_COMMENT) if isinstance(inner, Mapping) else None
    return value.content[len(_COMMENT_IS_ASCII) :].decode(errors="replace") if isinstance(value, Value) else ""


def is_settings(text: str) -> bool:
    """Whether a text is what Pixelsmith says of a picture that it made."""
    try:
        return isinstance(read_object(text).get("request"), dict)
    except ValueError:
        return False


def _without_settings(exif: dict[int, Value | Tags]) -> dict[int, Value | Tags]:
    described, inner = exif.get(DESCRIPTION), exif.get(EXIF)
    if isinstance(described, Value) and is_settings(described.text):
        del exif[DESCRIPTION]
    if isinstance(inner, Mapping) and is_settings(comment_in(exif)):
        exif[EXIF] = {tag: value for tag, value in inner.items() if tag != USER_COMMENT}
    return exif


def _tiff_tags(path: Path) -> Mapping[int, Value | Tags]:
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            return read_tags(file)
    except _DAMAGE:
        # Not a TIFF; or libvips complains of it.
        return {}


def _tiff_iptc(tags: Tags) -> bytes:
    plain, photoshop = tags.get(IPTC), tags.get(_PHOTOSHOP)
    if isinstance(plain, Value) and plain.content.startswith(b"\x1c"):
        return plain.content
    return iptc_in(photoshop.content) if isinstance(photoshop, Value) else b""


def iptc_in(resources: bytes) -> bytes:
    """The records of IPTC among Photoshop's image resources; nothing where they are damaged, or there are none."""
    at = len(_PHOTOSHOP_NAME) if resources.startswith(_PHOTOSHOP_NAME) else 0
    try:
        while resources[at : at + 4] == _RESOURCE:
            (kind, name) = struct.unpack_from(">HB", resources, at + 4)
            # The name with its length, and what follows, are padded to even.
            at += 6 + (name + 2) // 2 * 2
            (length,) = struct.unpack_from(">I", resources, at)
            at += 4
            if kind == _RESOURCE_IPTC:
                return resources[at : at + length]
            at += length + length % 2
    except struct.error:
        pass
    return b""


def _dpi(image: pyvips.Image) -> float | None:
    dpi = round(image.xres * _MM_PER_INCH, 2)
    unsaid = image.xres == _NO_UNIT or round(dpi) == _UNSAID
    return None if unsaid or not DPI_RANGE[0] <= dpi <= DPI_RANGE[1] else dpi


def _blob(image: pyvips.Image, name: str) -> bytes:
    return bytes(image.get(name)) if image.get_typeof(name) else b""


def _xmp_of(xmp: bytes, size: Size) -> bytes:
    """A packet of XMP whose tags of TIFF and EXIF are those of an upright sRGB picture of this size.

    Values stand in attributes or in elements (XMP specification, part 1); nothing else is touched.
    """
    now = {
        "tiff:Orientation": 1, "tiff:ImageWidth": size.width, "tiff:ImageLength": size.height,
        "exif:PixelXDimension": size.width, "exif:PixelYDimension": size.height, "exif:ColorSpace": _SRGB,
    }  # fmt: skip
    for name, value in now.items():
        for quote in (b'"', b"'"):
            attribute = rb"(\s%s\s*=\s*%s)[^%s]*(%s)" % (name.encode(), quote, quote, quote)
            xmp = re.sub(attribute, rb"\g<1>%d\g<2>" % value, xmp)
        xmp = re.sub(rb"(<%s>)[^<]*(</%s>)" % (name.encode(), name.encode()), rb"\g<1>%d\g<2>" % value, xmp)
    return xmp
