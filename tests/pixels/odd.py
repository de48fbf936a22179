"""Odd picture files, written byte by byte: what no library writes, and some program did."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

Pixels = NDArray[Any]
WIDTH, HEIGHT = 128, 96
_FORMS = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B"}


def picture(width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """Colours (height, width, 3) uint8 that tell where a pixel is; (50, 10) is (100, 20, 60)."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 2 % 256, y * 2 % 256, (x + y) % 256], -1).astype(np.uint8)


def noisy(width: int, height: int) -> Pixels:
    """The same with grain, so that compression leaves something to damage."""
    grain = np.random.default_rng(0).integers(-9, 10, (height, width, 3))
    return np.clip(picture(width, height) + grain, 0, 255).astype(np.uint8)


def tags(channels: int = 3, bits: int = 8, photometric: int = 2, **others: Any) -> dict[int, tuple[int, list[int]]]:
    """Those that a page of 128x96 needs; ``others`` are ``t`` and the number: (type, values)."""
    plain = {
        256: (3, [WIDTH]), 257: (3, [HEIGHT]), 258: (3, [bits] * channels), 259: (3, [1]), 262: (3, [photometric]),
        277: (3, [channels]), 278: (3, [HEIGHT]), 284: (3, [1]),
    }  # fmt: skip
    return plain | {int(name[1:]): value for name, value in others.items()}


def write_tiff(path: Path, strips: Sequence[bytes], directory: dict[int, tuple[int, list[int]]]) -> Path:
    """A TIFF of one page, as the directory says, right or wrong."""
    content, offsets = bytearray(b"II*\0\0\0\0\0"), []
    for strip in strips:
        offsets.append(len(content))
        content += strip + b"\0" * (len(strip) % 2)
    directory = {273: (4, offsets), 279: (4, [len(strip) for strip in strips])} | directory
    entries = b""
    for tag, (kind, values) in sorted(directory.items()):
        value = struct.pack(f"<{len(values)}{_FORMS[kind]}", *values)
        if len(value) > 4:
            place = len(content)
            content += value + b"\0" * (len(value) % 2)
            value = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    struct.pack_into("<I", content, 4, len(content))
    content += struct.pack("<H", len(directory)) + entries + bytes(4)
    path.write_bytes(content)
    return path


def profile(name: str) -> bytes:
    """One of the profiles that come with libvips."""
    return bytes(pyvips.Operation.call("profile_load", name))


def linear_grey() -> bytes:
    """An ICC profile of grey whose values are linear light."""
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0\0\0\0\0"
    name = b"desc\0\0\0\0\0\0\0\5grey\0" + bytes(78)
    copyright_ = b"text\0\0\0\0none\0\0\0\0"
    parts = [(b"wtpt", white), (b"kTRC", curve), (b"desc", name), (b"cprt", copyright_)]
    table, data, place = b"", b"", 128 + 4 + 12 * len(parts)
    for kind, part in parts:
        part += bytes(-len(part) % 4)
        table += kind + struct.pack(">II", place + len(data), len(part))
        data += part
    head = bytearray(128)
    head[8:12], head[12:16], head[16:20], head[20:24] = b"\2\x10\0\0", b"mntr", b"GRAY", b"XYZ "
    head[36:40], head[68:80] = b"acsp", struct.pack(">iii", 63190, 65536, 54061)
    struct.pack_into(">I", head, 0, place + len(data))
    return bytes(head) + struct.pack(">I", len(parts)) + table + data


def damaged(content: bytes, count: int) -> bytes:
    """The same with ``count`` bytes of its middle changed."""
    rng, changed = np.random.default_rng(0), bytearray(content)
    for place in rng.integers(len(content) // 5, len(content) * 4 // 5, count):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)
