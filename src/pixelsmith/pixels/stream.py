"""Streaming a picture to libvips, from the canvas into the written file without an intermediate copy.

Mapping a file of raw pixels would be simpler, but the whole file would count as this process's memory.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyvips
from numpy.typing import NDArray

from pixelsmith.geometry import Window
from pixelsmith.pixels.depth import Encoding
from pixelsmith.pixels.transparency import WithAlpha
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.memory import give_back_memory

_BAND = 128
"""Rows of the picture that are processed at a time."""
_BLOCK = 2048
"""Columns that are read at a time, which bounds the size of a tensor."""


EIGHT = Encoding()
_COLOUR_TYPES = {3: 2, 4: 6}
"""PNG's colour types for 3 and 4 channels."""
OnRows = Callable[[int, int], None]
"""A callback with (rows read, rows in all)."""


def channels_of(picture: Readable) -> int:
    """The number of channels of a picture: 3, or 4 with alpha."""
    return 4 if isinstance(picture, WithAlpha) else 3


@contextmanager
def streamed(
    picture: Readable, on_rows: OnRows, exif: bytes = b"", encoding: Encoding = EIGHT
) -> Iterator[pyvips.Image]:
    """A picture (3 or 4, H, W) in 0..255 as an image that libvips reads once, from top to bottom, within this context.

    ``exif``: the EXIF block, which is a small TIFF.

    An error of reading the picture is raised at the end of the context, instead of the error of libvips that it causes.
    """
    chunks, rest, failures = png_chunks(picture, on_rows, exif, encoding), memoryview(b""), list[BaseException]()

    def read(size: int) -> bytes:
        # libvips calls this from C code, through which no exception can pass, so the stream ends instead.
        nonlocal rest
        try:
            rest = rest or memoryview(next(chunks, b""))
        except BaseException as error:
            failures.append(error)
        taken, rest = rest[:size], rest[size:]
        return bytes(taken)

    source = pyvips.SourceCustom()
    source.on_read(read)
    try:
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="truncated")
        yield _floats(image) if encoding.floats else image
    finally:
        if failures:
            raise failures[0]


def png_chunks(picture: Readable, on_rows: OnRows, exif: bytes = b"", encoding: Encoding = EIGHT) -> Iterator[bytes]:
    """An uncompressed PNG in chunks: the one format that every build of libvips can read from a pipe.

    PNG has no floats: the first half of each is stored in a 16-bit picture, the second half in another to its right.
    """
    size, channels = picture.size, channels_of(picture)
    halves, bits = (2, 16) if encoding.floats else (1, encoding.bits)
    header = struct.pack(">IIBBBBB", halves * size.width, size.height, bits, _COLOUR_TYPES[channels], 0, 0, 0)
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    if exif:
        yield _chunk(b"eXIf", exif)
    packed = zlib.compressobj(0)
    # Each row begins with the number of its filter, 0 for none.
    pixel = channels * bits // 8
    band = np.zeros((min(_BAND, size.height), 1 + halves * pixel * size.width), np.uint8)
    for top in range(0, size.height, _BAND):
        rows = band[: size.height - top]
        height = len(rows)
        pixels = rows[:, 1:].reshape(height, halves, size.width, pixel)
        for left in range(0, size.width, _BLOCK):
            window = Window(top, left, height, min(_BLOCK, size.width - left))
            stored = encoding.stored(picture.read(window), window)
            pixels[:, :, left : window.right] = _halved(stored) if encoding.floats else stored[:, None]
        for row in rows:
            yield _chunk(b"IDAT", packed.compress(row.tobytes()))
        # Memory that libvips has freed stays in the heaps of its threads until it is returned to the system.
        give_back_memory()
        on_rows(top + height, size.height)
    yield _chunk(b"IDAT", packed.flush()) + _chunk(b"IEND", b"")


def _halved(floats: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The bytes of floats (h, w, 4 c) as two integers each, (h, 2, w, 2 c), in PNG's 16-bit format."""
    halves = floats.view(np.uint16).reshape(*floats.shape[:2], -1, 2).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(halves.astype(">u2")).view(np.uint8)


def _floats(halves: pyvips.Image) -> pyvips.Image:
    """The floats from their halves, which are side by side."""
    width = halves.width // 2
    first, second = (halves.crop(left, 0, width, halves.height).bandsplit() for left in (0, width))
    bands = [half for both in zip(first, second, strict=True) for half in both]
    return bands[0].bandjoin(bands[1:]).copy(format="float", bands=halves.bands, interpretation="scrgb")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
