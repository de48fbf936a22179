"""Parts of a picture for a page: tiles, regions to save, and thumbnails."""

from __future__ import annotations

import math
from collections.abc import Mapping
from io import BytesIO

from pixelsmith.geometry import Size
from pixelsmith.pixels.zoomable import Box, Zoomable
from pixelsmith.run.shown import TILE

SAVED_SIDE = 4096
"""The longest side in pixels of a region that is saved; a larger one is scaled down to it."""
_LEVELS = 40
"""More than any picture has."""
_MAX_DIGITS = 16
"""Of seeds, which are below 2^53."""


def tile_of(source: Zoomable, level: int, column: int, row: int) -> bytes:
    """A JPEG of a tile; level 0 is the full picture, each next one half of it. Raises ``LookupError``."""
    if not 0 <= level <= _LEVELS or min(column, row) < 0:
        raise LookupError((level, column, row))
    side = TILE << level
    left, top = column * side, row * side
    right, bottom = min(left + side, source.size.width), min(top + side, source.size.height)
    if left >= right or top >= bottom:
        raise LookupError((level, column, row))
    size = Size(-(-(right - left) >> level) or 1, -(-(bottom - top) >> level) or 1)
    return _encoded(source, (left, top, right, bottom), size, "JPEG")


def region_of(source: Zoomable, box: Box) -> bytes:
    """A PNG of the whole pixels under the part of ``box`` inside a picture, as they are as far as ``SAVED_SIDE`` goes.

    Raises ``LookupError``.
    """
    if not all(map(math.isfinite, box)):
        raise LookupError(box)
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(box[2], float(source.size.width)), min(box[3], float(source.size.height))
    if not (left < right and top < bottom):
        raise LookupError(box)
    # Between pixels it would be resampled, and softened.
    left, top, right, bottom = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    scale = min(1.0, SAVED_SIDE / max(right - left, bottom - top))
    size = Size(max(1, math.ceil((right - left) * scale)), max(1, math.ceil((bottom - top) * scale)))
    return _encoded(source, (left, top, right, bottom), size, "PNG")


def box_of(query: Mapping[str, str]) -> Box:
    """The box of a region from the query of a URL. Raises ``LookupError``."""
    try:
        left, top, right, bottom = (float(query[name]) for name in ("left", "top", "right", "bottom"))
    except ValueError as error:
        raise LookupError(str(error)) from error
    return left, top, right, bottom


def number_of(text: str) -> int:
    """A number from 0 in the path of a URL. Raises ``LookupError`` for any other text."""
    if not text.isdecimal() or len(text) > _MAX_DIGITS:
        raise LookupError(text)
    return int(text)


def small_of(source: Zoomable, side: int) -> bytes:
    """A JPEG of all of a picture, ``side`` pixels on its longer side."""
    size = source.size.scaled(min(1.0, side / max(source.size.width, source.size.height)))
    return _encoded(source, (0, 0, source.size.width, source.size.height), size, "JPEG")


def _encoded(source: Zoomable, box: Box, size: Size, kind: str) -> bytes:
    target = BytesIO()
    source.look(box, size).save(target, kind, quality=90)
    return target.getvalue()
