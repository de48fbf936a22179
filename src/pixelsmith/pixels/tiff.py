"""Properties of a TIFF's pages that libvips does not report."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelsmith.geometry import Size
from pixelsmith.pixels.tags import Directories, Numbers, Value
from pixelsmith.system.durable import open_to_read

_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _INNER = 254, 256, 257, 259, 262, 330
_ORIENTATION, _EXTRA, _COEFFICIENTS, _BLACK_WHITE = 274, 338, 529, 532
_WANTED = (
    _SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _INNER, _EXTRA, _COEFFICIENTS, _BLACK_WHITE
)  # fmt: skip
_MOST = 1000
"""The largest number of a tag's values that are read."""
_YCBCR, _JPEG = 6, (6, 7)


@dataclass(frozen=True)
class YCbCr:
    """The parameters of YCbCr: the weights of red, green and blue in luma, and each channel's black and white."""

    luma: tuple[float, float, float] = (0.299, 0.587, 0.114)
    black_white: tuple[float, ...] = (0, 255, 128, 255, 128, 255)


@dataclass(frozen=True)
class TiffPage:
    """A directory of a TIFF (TIFF 6.0, and for BigTIFF and pages within pages Adobe's technical notes).

    - ``reduced``: whether it is a smaller version of another page (``NewSubfileType``).
    - ``orientation``: 1..8 for the rotation and reflection; invalid files have other numbers.
    - ``inner``: its nested pages (``SubIFDs``).
    - ``extra``: the kinds of its extra channels (``ExtraSamples``); 1 and 2 are transparency.
    - ``ycbcr``: for YCbCr pixels that the decoder does not convert to RGB.
    """

    size: Size
    reduced: bool = False
    orientation: int = 1
    inner: tuple[TiffPage, ...] = ()
    extra: tuple[int, ...] = ()
    ycbcr: YCbCr | None = None


def tiff_pages(path: Path) -> list[TiffPage]:
    """The pages in the order of the file, as far as they can be read; none if it is no TIFF."""
    pages: list[TiffPage] = []
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            directories = Directories(file)
            for tags in map(_numbers, directories.chain(_WANTED)):
                inner = (_numbers(directories.at(int(offset), _WANTED)[0]) for offset in tags.get(_INNER, ()))
                pages.append(_page(tags, tuple(map(_page, inner))))
    except (OSError, ValueError, LookupError, OverflowError, struct.error):
        # libvips reports the damage when it reads the file.
        pass
    return pages


def _numbers(tags: Mapping[int, Value]) -> dict[int, Numbers]:
    return {tag: value.numbers for tag, value in tags.items() if value.count <= _MOST}


def _page(tags: Mapping[int, Numbers], inner: tuple[TiffPage, ...] = ()) -> TiffPage:
    raw = tags.get(_PHOTOMETRIC) == (_YCBCR,) and tags.get(_COMPRESSION, (1,))[0] not in _JPEG
    luma, codes = tags.get(_COEFFICIENTS, ()), tags.get(_BLACK_WHITE, ())
    return TiffPage(
        size=Size(int(tags[_WIDTH][0]), int(tags[_HEIGHT][0])),
        reduced=bool(int(tags.get(_SUBFILE, (0,))[0]) & 1),
        orientation=int(tags.get(_ORIENTATION, (1,))[0]),
        inner=inner,
        extra=tuple(map(int, tags.get(_EXTRA, ()))),
        ycbcr=None if not raw else YCbCr(
            luma=(luma[0], luma[1], luma[2]) if len(luma) == 3 else YCbCr.luma,
            black_white=codes if len(codes) == 6 else YCbCr.black_white,
        ),
    )  # fmt: skip
