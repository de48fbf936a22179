"""Sizes as people ask for them: in pixels, as a print at a resolution, or in megapixels of a shape."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from pixelsmith.config.checks import check_range
from pixelsmith.errors import RequestError
from pixelsmith.geometry import MAX_SIDE, Size

PRINT_DPI = 300.0
"""The resolution that print shops expect by default."""
DPI_RANGE = (1, 10_000)
_INCHES = {"mm": 1 / 25.4, "cm": 1 / 2.54, "m": 100 / 2.54, "in": 1.0}
_PIXELS = {"mp": 1e6, "gp": 1e9}
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_SIDES = rf"{_NUMBER}(?:\s*[x×]\s*{_NUMBER})?"
_AT = re.compile(rf"(.*?)\s*@\s*{_NUMBER}\s*dpi\s*", re.IGNORECASE | re.DOTALL)
_PRINT = re.compile(rf"\s*{_SIDES}\s*({'|'.join(_INCHES)})\s*", re.IGNORECASE)
_AREA = re.compile(rf"\s*{_NUMBER}\s*({'|'.join(_PIXELS)})\s*", re.IGNORECASE)


def asked_size(text: str, dpi: float | None, shape: Callable[[], Size]) -> tuple[Size, float | None]:
    """The pixels of a size, and the dots per inch that it says or that are asked for, if any.

    ``text``: ``2048x1024`` or ``2048`` pixels, ``60x90cm`` (``mm``, ``cm``, ``m``, ``in``) or ``40MP`` (``GP``), each
    also with ``@300dpi``. A print without a resolution has ``PRINT_DPI``; megapixels have the proportions of ``shape``,
    which is called for them alone.

    Raises ``RequestError`` for any other text, a resolution out of ``DPI_RANGE``, or one that differs from ``dpi``.
    """
    plain, dpi = _resolution(text, dpi)
    if found := _PRINT.fullmatch(plain):
        dpi = dpi or PRINT_DPI
        dots = _INCHES[found[3].lower()] * dpi
        return Size(_pixels(float(found[1]) * dots, text), _pixels(float(found[2] or found[1]) * dots, text)), dpi
    if found := _AREA.fullmatch(plain):
        like = shape()
        factor = math.sqrt(float(found[1]) * _PIXELS[found[2].lower()] / like.area)
        return Size(_pixels(like.width * factor, text), _pixels(like.height * factor, text)), dpi
    try:
        return Size.parse(plain), dpi
    except RequestError as error:
        raise RequestError(
            "size: expected WIDTHxHEIGHT in pixels (2048x1024, 2048), a print (60x90cm@300dpi, 24x36in@150dpi) or an "
            f"area (40MP), got {text!r}"
        ) from error


def check_dpi(dpi: float) -> None:
    """Raise ``RequestError`` where it is no resolution."""
    check_range("dpi", dpi, *DPI_RANGE)


def _resolution(text: str, dpi: float | None) -> tuple[str, float | None]:
    """A size without its resolution, and that."""
    found = _AT.fullmatch(text)
    if found is None:
        plain, said = text, dpi
    else:
        plain, said = found[1], float(found[2])
    if said is not None:
        check_dpi(said)
    if dpi not in (None, said):
        raise RequestError(f"dpi: the size says {said:g}, --dpi {dpi:g}; leave one of them out")
    return plain, said


def _pixels(count: float, text: str) -> int:
    pixels = round(count)
    if not 1 <= pixels <= MAX_SIDE:
        raise RequestError(f"size: expected 1 to {MAX_SIDE:,} pixels a side, {text!r} is {pixels:,}")
    return pixels
