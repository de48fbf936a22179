"""Photos and maps with metadata, written by Pillow."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from tests.pixels.odd import picture

XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description tiff:Orientation="6" '
    b"xmp:Rating='5'><exif:PixelXDimension>128</exif:PixelXDimension><dc:rights>Jane</dc:rights></rdf:Description>"
    b'</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x78\x00\x0aA red boat" + b"\x1c\x02\x74\x00\x07(c) Jan"
DESCRIPTION = "A boat at Zürich"


def resources(iptc: bytes) -> bytes:
    """IPTC among Photoshop's image resources, behind another one."""
    resolution = b"8BIM" + struct.pack(">H", 0x03ED) + b"\x03abc" + struct.pack(">I", 5) + b"12345\0"
    return resolution + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)


def exif(description: str | None = DESCRIPTION, orientation: int = 6) -> Image.Exif:
    made = Image.Exif()
    if description:
        made[ExifTags.Base.ImageDescription] = description.encode()
    made[ExifTags.Base.Make], made[ExifTags.Base.Model] = "Canon", "EOS"
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.Base.Copyright] = "(c) Jane"
    made.get_ifd(ExifTags.IFD.Exif).update({
        ExifTags.Base.ExposureTime: TiffImagePlugin.IFDRational(1, 125),
        ExifTags.Base.DateTimeOriginal: "2020:01:02 03:04:05",
        ExifTags.Base.ExifImageWidth: 128, ExifTags.Base.ExifImageHeight: 96, ExifTags.Base.ColorSpace: 65535,
    })  # fmt: skip
    made.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 8.0, 12.5), 3: "E", 4: (11.0, 34.0, 1.25)})
    return made


def write_photo(path: Path, description: str | None = DESCRIPTION, orientation: int = 6) -> Path:
    """128x96 pixels, turned, with EXIF, IPTC (in JPEG) and XMP, 240 dpi."""
    photo = Image.fromarray(picture())
    about = exif(description, orientation)
    if path.suffix == ".png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", XMP.decode())
        photo.save(path, exif=about, pnginfo=chunks, dpi=(240, 240))
    elif path.suffix == ".tif":
        about[700], about[33723] = XMP, IPTC
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            about[directory] = about.get_ifd(directory)
        photo.save(path, exif=about, dpi=(240, 240))
    else:
        photo.save(path, exif=about, xmp=XMP, dpi=(240, 240))
    if path.suffix == ".jpg":
        content, segment = path.read_bytes(), b"Photoshop 3.0\0" + resources(IPTC)
        path.write_bytes(content[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + content[2:])
    return path


def write_map(path: Path, point: bool = False, matrix: bool = False, orientation: int = 1) -> Path:
    """A map of 128x96 pixels of 10 metres; its corner (or the centre of its first pixel) is at 500000, 5300000."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 2 if point else 1, 3072, 0, 1, 32632)
    values: dict[int, tuple[int, tuple[float, ...]]] = {34735: (3, keys), 34736: (12, (0.0, 1.5))}
    if matrix:
        values[34264] = (12, (10.0, 0, 0, 500000, 0, -10.0, 0, 5300000, 0, 0, 0, 0, 0, 0, 0, 1))
    else:
        values[33550], values[33922] = (12, (10.0, 10.0, 0.0)), (12, (0.0, 0, 0, 500000, 5300000, 0))
    for tag, (kind, numbers) in values.items():
        tags[tag] = numbers
        tags.tagtype[tag] = kind
    tags[34737], tags[274] = "WGS 84 / UTM zone 32N|", orientation
    Image.fromarray(np.ascontiguousarray(picture())).save(path, tiffinfo=tags)
    return path
