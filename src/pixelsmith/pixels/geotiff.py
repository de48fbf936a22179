"""The geotransform of a picture (OGC GeoTIFF 1.1), adapted to its enlargement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelsmith.geometry import NO_WRAP, Size, Wrap
from pixelsmith.pixels.resample import Scaling
from pixelsmith.pixels.tags import Tags, Value

_SCALE, _TIEPOINTS, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _DOUBLES, _TEXTS = 34735, 34736, 34737
GEO_TAGS = (_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS, _DOUBLES, _TEXTS)
_RASTER_TYPE, _IS_POINT = 1025, 2
"""The key for whether integer coordinates are corners or centres of pixels, and its value for centres."""


def enlarged_geo(tags: Tags, sizes: Sequence[Size], wrap: Wrap = NO_WRAP) -> dict[int, Value | Tags]:
    """The GeoTIFF tags of an enlarged picture, such that every point keeps its coordinates on earth.

    ``sizes``: of the original picture and of its enlargements, in order; ``wrap``: the axes on which they wrap. Raises
    ``ValueError`` for damaged tags.
    """
    found = {tag: value for tag, value in tags.items() if tag in GEO_TAGS and isinstance(value, Value)}
    seen, half = Scaling.through(sizes, wrap), 0.5 if _is_point(found.get(_KEYS)) else 0.0
    # A raster coordinate of the new picture in that of the old one; both refer to corners, or both to centres.
    left, top = seen.left + (seen.across - 1) * half, seen.top + (seen.down - 1) * half
    changed: dict[int, Value | Tags] = dict(found)
    if _SCALE in found:
        across, down, height = _numbers(found[_SCALE], 3).ravel()
        changed[_SCALE] = Value.double(across * seen.across, down * seen.down, height)
    if _TIEPOINTS in found:
        points = _numbers(found[_TIEPOINTS], 6)
        points[:, 0] = (points[:, 0] - left) / seen.across
        points[:, 1] = (points[:, 1] - top) / seen.down
        changed[_TIEPOINTS] = Value.double(*points.ravel())
    if _TRANSFORMATION in found:
        matrix = _numbers(found[_TRANSFORMATION], 16).reshape(4, 4)
        inner = np.diag([seen.across, seen.down, 1.0, 1.0])
        inner[:2, 3] = left, top
        changed[_TRANSFORMATION] = Value.double(*(matrix @ inner).ravel())
    return changed


def has_place(tags: Tags) -> bool:
    """Whether tags contain a geotransform."""
    return any(tag in tags for tag in (_SCALE, _TIEPOINTS, _TRANSFORMATION))


def _is_point(keys: object) -> bool:
    """Whether the keys (four numbers each, after a header of four) define integer coordinates as pixel centres."""
    if not isinstance(keys, Value):
        return False
    numbers = keys.numbers
    found = {numbers[at]: numbers[at + 1 : at + 4] for at in range(4, len(numbers) - 3, 4)}
    return found.get(_RASTER_TYPE) == (0, 1, _IS_POINT)


def _numbers(value: Value, columns: int) -> np.ndarray:
    return np.array(value.numbers, np.float64).reshape(-1, columns)
