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
"""Tags of the first directory that describe the subject: title, camera, dates, author, rating, copyright."""
_COLOUR_SPACE, _WIDTH, _HEIGHT = 40961, 40962, 40963
_SRGB = 1
_COMMENT_IS_ASCII = b"ASCII\0\0\0"
_PHOTOSHOP_NAME, _RESOURCE, _RESOURCE_IPTC = b"Photoshop 3.0\0", b"8BIM", 0x0404
_MM_PER_INCH = 25.4
_UNSAID = 72
"""The dots per inch that libvips and many cameras write if the resolution is unknown."""
_NO_UNIT = 1.0
"""The pixels per millimetre that libvips reports if the file has no resolution."""
_DAMAGE = (OSError, ValueError, LookupError, OverflowError, struct.error)


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture file.

    - ``dpi``: dots per inch; ``None`` if unknown.
    - ``exif``: the EXIF tags that describe the subject (not how the picture is stored), with their directories.
    - ``iptc``: records of IPTC-IIM; ``xmp``: an XMP packet.
    - ``geo``: GeoTIFF tags; ``turned``: whether an orientation tag rotates the picture, to which they do not apply;
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
        """Whether the metadata contain a geotransform."""
        return has_place(self.geo)

    def of(self, sizes: Sequence[Size], wrap: Wrap = NO_WRAP) -> Metadata:
        """The metadata of the picture after it was made upright, converted to sRGB and enlarged.

        ``sizes``: its own size and those of the enlargements; ``wrap``: the axes on which they wrap. The geotransform
        is left out if the picture was rotated or its tags are damaged.
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
        """The picture's own description in EXIF."""
        found = self.exif.get(DESCRIPTION)
        return found if isinstance(found, Value) else None

    @property
    def photoshop(self) -> bytes:
        """IPTC as a JPEG stores it: in a Photoshop resource."""
        if not self.iptc:
            return b""
        head = _RESOURCE + struct.pack(">HHI", _RESOURCE_IPTC, 0, len(self.iptc))
        return _PHOTOSHOP_NAME + head + self.iptc + bytes(len(self.iptc) % 2)


NO_METADATA = Metadata()


def read_metadata(path: Path) -> Metadata:
    """Read the metadata of a picture file; damaged parts are skipped.

    Settings of Pixelsmith are left out, because they describe how that picture was made. Raises ``PictureError`` if the
    file is no picture.
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
    """The description and the comment of a picture in EXIF or TIFF tags."""
    tags = _tiff_tags(path) or exif_tags(_blob(header(path), "exif-data"))
    described = tags.get(DESCRIPTION)
    return [described.text if isinstance(described, Value) else "", comment_in(tags)]


def comment_of(text: str) -> Value:
    """An ASCII text as EXIF's ``UserComment``."""
    return Value.blob(_COMMENT_IS_ASCII + text.encode())


def comment_in(tags: Tags) -> str:
    """The text of EXIF's ``UserComment``, or an empty one."""
    inner = tags.get(EXIF)
    value = inner.get(USER_COMMENT) if isinstance(inner, Mapping) else None
    return value.content[len(_COMMENT_IS_ASCII) :].decode(errors="replace") if isinstance(value, Value) else ""


def is_settings(text: str) -> bool:
    """Whether a text contains the settings of a picture made by Pixelsmith."""
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
        # It is not a TIFF, or damaged, which libvips reports.
        return {}


def _tiff_iptc(tags: Tags) -> bytes:
    plain, photoshop = tags.get(IPTC), tags.get(_PHOTOSHOP)
    if isinstance(plain, Value) and plain.content.startswith(b"\x1c"):
        return plain.content
    return iptc_in(photoshop.content) if isinstance(photoshop, Value) else b""


def iptc_in(resources: bytes) -> bytes:
    """The IPTC records among Photoshop's image resources; empty if there are none or they are damaged."""
    at = len(_PHOTOSHOP_NAME) if resources.startswith(_PHOTOSHOP_NAME) else 0
    try:
        while resources[at : at + 4] == _RESOURCE:
            (kind, name) = struct.unpack_from(">HB", resources, at + 4)
            # The name with its length, and the data, are padded to even lengths.
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
    """An XMP packet with the TIFF and EXIF properties of an upright sRGB picture of this size.

    Values are in attributes or elements (XMP specification, part 1); everything else is unchanged.
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
