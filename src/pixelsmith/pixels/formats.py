"""The file formats that pictures are written in, and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyvips

from pixelsmith.geometry import Size
from pixelsmith.pixels.settings_inside import KEY

PROFILES = {"srgb": "srgb", "display-p3": "p3"}
"""The colour profiles of files, and their names in libvips."""


@dataclass(frozen=True)
class Format:
    """How libvips writes a file format.

    - ``pixel_bytes``: the most bytes per pixel, including the smaller levels of a pyramid.
    - ``settings``: the metadata field of the settings; a folder of tiles has a file of them instead.
    - ``side_limit``: the largest side in pixels, 0 if there is no relevant limit.
    - ``byte_limit``: the largest size of a file in bytes, 0 if there is no relevant limit.
    - ``alpha``: whether it supports transparency.
    - ``bits``: the most bits per channel; 32 are floats.
    - ``saver``: the saver of libvips, if not every build has it.
    """

    options: Mapping[str, Any]
    pixel_bytes: float
    settings: str = "image-description"
    side_limit: int = 0
    byte_limit: int = 0
    alpha: bool = False
    bits: int = 8
    saver: str | None = None

    @property
    def known(self) -> bool:
        """Whether this build of libvips can write it."""
        return self.saver is None or bool(pyvips.type_find("VipsOperation", self.saver))

    @property
    def metadata(self) -> Literal["fields", "tags", None]:
        """How other metadata are written: as libvips's fields, or as tags that are added to the file."""
        return None if self.tiled_folder else "tags" if self.settings == "image-description" else "fields"

    @property
    def in_exif(self) -> bool:
        return self.settings.startswith("exif")

    @property
    def tiled_folder(self) -> bool:
        return not self.settings


_EXIF, EXIF_COMMENT = "exif-ifd0-ImageDescription", "exif-ifd2-UserComment"
"""The EXIF fields for the settings; the second one is used if a photo has a description of its own."""
_PYRAMID = {"tile": True, "tile_width": 256, "tile_height": 256, "pyramid": True, "bigtiff": True}
_DEEP_ZOOM = {"tile_size": 254, "overlap": 1}
# The format allows 65,535, but libraries stop at this.
JPEG = Format({"Q": 95}, 2, _EXIF, 65_500)
_LOSSLESS = {"compression": "deflate", "predictor": "horizontal"}
_TIFF = Format({**_PYRAMID, **_LOSSLESS}, 4.2, alpha=True, bits=32)
_LARGE_TIFF = Format({**_PYRAMID, "compression": "jpeg", "Q": 92}, 2)
_PLAIN_TIFF = Format(_LOSSLESS, 3.1, byte_limit=2**32, alpha=True, bits=32)
LARGE = 100_000_000
"""Pixels from which a TIFF is compressed with JPEG; a lossless gigapixel takes gigabytes and many minutes."""
ALL_FORMATS: dict[str, Format] = {
    ".png": Format({"compression": 6}, 3.1, f"png-comment-0-{KEY}", alpha=True, bits=16),
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": Format({"Q": 95}, 2, _EXIF, 16_383, alpha=True),
    ".avif": Format({"compression": "av1", "Q": 90, "effort": 2}, 2, _EXIF, 16_384, alpha=True, saver="heifsave"),
    ".jxl": Format({"Q": 95}, 2, _EXIF, alpha=True, saver="jxlsave"),
    ".tif": _TIFF,
    ".tiff": _PLAIN_TIFF,
    ".dzi": Format(_DEEP_ZOOM, 2, settings=""),
    ".zip": Format(_DEEP_ZOOM, 2, settings=""),
}
FORMATS = {suffix: kind for suffix, kind in ALL_FORMATS.items() if kind.known}
"""The kinds of file that this build of libvips writes, by suffix; ``.tif`` is a pyramid, ``.tiff`` a plain picture for
programs without BigTIFF; ``.zip`` is a DeepZoom folder in one file."""


def format_of(path: Path, size: Size, alpha: bool = False, bits: int = 8) -> Format:
    """The format of a path for a picture of this size, with or without alpha, with ``bits`` per channel.

    Raises ``KeyError`` for a suffix that is not in ``FORMATS``.
    """
    found = FORMATS[path.suffix.lower()]
    if alpha or bits > 8:
        # JPEG supports neither, not even in a TIFF. A fourth channel takes as much space as the others.
        found = replace(found, pixel_bytes=found.pixel_bytes * (4 if alpha else 3) / 3 * bits / 8)
        # libtiff's predictor for integers compresses floats less.
        return replace(found, options={**found.options, "predictor": "float"}) if bits == 32 else found
    return _LARGE_TIFF if found is _TIFF and size.area >= LARGE else found
