"""What the directories of a TIFF say of its pages, where libvips says nothing of it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pixelsmith.durable import open_to_read
from pixelsmith.geometry import Size

Tags = dict[int, tuple[float, ...]]
"""Numbers by tag."""
_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _INNER = 254, 256, 257, 259, 262, 330
_ORIENTATION, _EXTRA, _COEFFICIENTS, _BLACK_WHITE = 274, 338, 529, 532
_WANTED = (
    _SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _INNER, _EXTRA, _COEFFICIENTS, _BLACK_WHITE
)  # fmt: skip
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 13: "I", 16: "Q", 18: "Q"}
"""How a number of each type is stored; a rational is two."""
_MOST = 1000
"""Pages, and values of a tag, that are looked at: a file whose directories lead in a circle has no last one."""
_YCBCR, _JPEG = 6, (6, 7)


@dataclass(frozen=True)
class YCbCr:
    """How YCbCr is stored: the weights of red, green and blue in luma, and the codes of black and white by channel."""

    luma: tuple[float, float, float] = (0.299, 0.587, 0.114)
    black_white: tuple[float, ...] = (0, 255, 128, 255, 128, 255)


@dataclass(frozen=True)
class TiffPage:
    """A directory of a TIFF (TIFF 6.0, and for BigTIFF and pages within pages Adobe's technical notes).

    - ``reduced``: whether it is a smaller version of another page (``NewSubfileType``).
    - ``orientation``: 1..8, which way up it is; files say other numbers, too.
    - ``inner``: the pages that belong to it (``SubIFDs``).
    - ``extra``: what its channels besides the colours are (``ExtraSamples``): 1 and 2 are transparency.
    - ``ycbcr``: where its pixels are YCbCr and not made RGB by the decoder.
    """

    size: Size
    reduced: bool = False
    orientation: int = 1
    inner: tuple[TiffPage, ...] = ()
    extra: tuple[int, ...] = ()
    ycbcr: YCbCr | None = None


def tiff_pages(path: Path) -> list[TiffPage]:
    """The pages in the order of the file, as far as they can be read: none where it is no TIFF."""
    pages: list[TiffPage] = []
    try:
        with os.fdopen(open_to_read(path), "rb") as file:
            directories = _Directories(file)
            for tags in directories.chain():
                inner = (directories.at(int(offset))[0] for offset in tags.get(_INNER, ()))
                pages.append(_page(tags, tuple(map(_page, inner))))
    except (OSError, ValueError, LookupError, OverflowError, struct.error):
        # What is damaged here libvips complains of.
        pass
    return pages


def _page(tags: Tags, inner: tuple[TiffPage, ...] = ()) -> TiffPage:
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


class _Directories:
    """The directories of an open TIFF, of either byte order, with offsets of 32 or 64 bits."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, header = file, file.read(16)
        self._order = {b"II": "<", b"MM": ">"}[header[:2]]
        self._big = self._unpack("H", header[2:4]) == (43,)
        self._offset, self._count = ("Q", "Q") if self._big else ("I", "H")
        (self._first,) = self._unpack("Q", header[8:16]) if self._big else self._unpack("I", header[4:8])

    def chain(self) -> Iterator[Tags]:
        """Those that follow each other."""
        offset = int(self._first)
        for _ in range(_MOST):
            if not offset:
                return
            tags, offset = self.at(offset)
            yield tags

    def at(self, offset: int) -> tuple[Tags, int]:
        """The wanted tags of a directory, and where the next one is: 0 for nowhere."""
        self._file.seek(offset)
        (count,) = self._read(self._count)
        heads: list[tuple[int, int, int, bytes]] = []
        for _ in range(int(count)):
            tag, kind, values = (*self._read("HH"), *self._read(self._offset))
            heads.append((int(tag), int(kind), int(values), self._file.read(8 if self._big else 4)))
        (following,) = self._read(self._offset)
        wanted = (head for head in heads if head[0] in _WANTED and head[1] in _TYPES and head[2] <= _MOST)
        return {tag: self._numbers(_TYPES[kind], values, at) for tag, kind, values, at in wanted}, int(following)

    def _numbers(self, kind: str, count: int, content: bytes) -> tuple[float, ...]:
        form = kind * count
        if struct.calcsize(f"{self._order}{form}") > len(content):
            (offset,) = self._unpack(self._offset, content)
            self._file.seek(int(offset))
            numbers = self._read(form)
        else:
            numbers = self._unpack(form, content[: struct.calcsize(f"{self._order}{form}")])
        if kind != "II":
            return numbers
        return tuple(over / under if under else 0.0 for over, under in zip(numbers[::2], numbers[1::2], strict=True))

    def _read(self, form: str) -> tuple[float, ...]:
        return self._unpack(form, self._file.read(struct.calcsize(f"{self._order}{form}")))

    def _unpack(self, form: str, content: bytes) -> tuple[float, ...]:
        return struct.unpack(f"{self._order}{form}", content)
