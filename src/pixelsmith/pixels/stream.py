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

from pixelsmith.geometry import Window
from pixelsmith.pixels.depth import Depth
from pixelsmith.pixels.transparency import WithAlpha
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.memory import give_back_memory

_BAND = 128
"""Rows of the picture that are processed at a time."""
_BLOCK = 2048
"""Columns that are read at a time, which bounds the size of a tensor."""


EIGHT = Depth()
_COLOUR_TYPES = {3: 2, 4: 6}
"""PNG's colour types for 3 and 4 channels."""
OnRows = Callable[[int, int], None]
"""A callback with (rows read, rows in all)."""


def channels_of(picture: Readable) -> int:
    """The number of channels of a picture: 3, or 4 with alpha."""
    return 4 if isinstance(picture, WithAlpha) else 3


@contextmanager
def streamed(picture: Readable, on_rows: OnRows, exif: bytes = b"", depth: Depth = EIGHT) -> Iterator[pyvips.Image]:
    """A picture (3 or 4, H, W) in 0..255 as an image that libvips reads once, from top to bottom, within this context.

    ``exif``: the EXIF block, which is a small TIFF.

    What reading the picture raises is raised when the context ends, instead of what libvips then made of it.
    """
    chunks, rest, failures = png_chunks(picture, on_rows, exif, depth), memoryview(b""), list[BaseException]()

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
        yield pyvips.Image.new_from_source(source, "", access="sequential", fail_on="truncated")
    finally:
        if failures:
            raise failures[0]


def png_chunks(picture: Readable, on_rows: OnRows, exif: bytes = b"", depth: Depth = EIGHT) -> Iterator[bytes]:
    """An uncompressed PNG in chunks: the one format that every build of libvips can read from a pipe."""
    size, channels = picture.size, channels_of(picture)
    header = struct.pack(">IIBBBBB", size.width, size.height, depth.bits, _COLOUR_TYPES[channels], 0, 0, 0)
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    if exif:
        yield _chunk(b"eXIf", exif)
    packed = zlib.compressobj(0)
    # Each row begins with the number of its filter, 0 for none.
    pixel = channels * depth.bytes
    band = np.zeros((min(_BAND, size.height), 1 + pixel * size.width), np.uint8)
    for top in range(0, size.height, _BAND):
        rows = band[: size.height - top]
        height = len(rows)
        pixels = rows[:, 1:].reshape(height, size.width, pixel)
        for left in range(0, size.width, _BLOCK):
            window = Window(top, left, height, min(_BLOCK, size.width - left))
            pixels[:, left : window.right] = depth.stored(picture.read(window), window)
        for row in rows:
            yield _chunk(b"IDAT", packed.compress(row.tobytes()))
        # Memory that libvips has freed stays in the heaps of its threads until it is returned to the system.
        give_back_memory()
        on_rows(top + height, size.height)
    yield _chunk(b"IDAT", packed.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
