"""Numbered slots for blocks of values, each written once as a whole: the storage of mosaics, in memory or in files."""

from __future__ import annotations

import errno
import os
import weakref
import zlib
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pixelsmith.system.durable import NotAFileError, open_to_keep, open_to_read, read_whole

Values = NDArray[Any]
_CACHE_BYTES = 16 << 20
"""The size of the viewer's cache of blocks in bytes, because neighbouring tiles read the same blocks."""


@runtime_checkable
class Slots(Protocol):
    """Slots for blocks of values of one dtype.

    A slot is filled or not, and never changes once it is filled, because its content depends on the request alone. So a
    slot that is lost, or may be damaged, can always be computed again.
    """

    def __contains__(self, index: int) -> bool: ...

    def read(self, index: int) -> Values:
        """The values of a filled slot, flat, at least as many as were written."""
        ...

    def write(self, index: int, values: Values) -> None:
        """Fill a slot. Raises ``OSError`` if there is no space."""
        ...

    def sync(self) -> None:
        """Flush all written blocks, so that they survive a power loss if the storage can."""
        ...


class MemorySlots:
    """Slots in memory."""

    def __init__(self) -> None:
        self._blocks: dict[int, Values] = {}

    def __contains__(self, index: int) -> bool:
        return index in self._blocks

    def read(self, index: int) -> Values:
        """The block's values, flat."""
        return self._blocks[index]

    def write(self, index: int, values: Values) -> None:
        """Fill a slot."""
        self._blocks[index] = values.ravel().copy()

    def sync(self) -> None:
        """Nothing in memory survives a power loss."""


class DiskSlots:
    """Slots in a file of equal blocks (``.data``) with a checksum for each in a second file (``.sums``).

    The checksum is written after its block, and is the journal. Opening verifies every block that has one; a block that
    is incomplete or damaged counts as not filled. Both files may be sparse.
    """

    def __init__(self, path: Path, count: int, capacity: int, dtype: DTypeLike) -> None:
        self._dtype, self._capacity = np.dtype(dtype), capacity
        self._bytes = capacity * self._dtype.itemsize
        existed = _file(path, ".sums").exists()
        self._data = _File(_file(path, ".data"), count * self._bytes)
        self._sums_file = _File(_file(path, ".sums"), 4 * count)
        self._sums = np.frombuffer(self._sums_file.read(4 * count, 0), np.uint32).copy()
        if existed:
            self._verify()

    def __contains__(self, index: int) -> bool:
        return bool(self._sums[index])

    def read(self, index: int) -> Values:
        """The block's values, flat. Raises ``OSError`` if the file has become shorter.

        Blocks are not cached: the system caches the file's pages, and long-lived blocks would fragment the heap.
        """
        return np.frombuffer(self._data.read(self._bytes, index * self._bytes), self._dtype)

    def write(self, index: int, values: Values) -> None:
        """Fill a slot. Raises ``OSError`` if the disk is full."""
        block = np.zeros(self._capacity, self._dtype)
        block[: values.size] = values.ravel()
        content = block.view(np.uint8).data
        self._data.write(content, index * self._bytes)
        checksum = np.uint32(_checksum(content, index))
        self._sums_file.write(checksum.tobytes(), 4 * index)
        self._sums[index] = checksum

    def sync(self) -> None:
        """Flush all written blocks to the disk."""
        self._data.sync()
        self._sums_file.sync()

    def close(self) -> None:
        """Close the files; the slots cannot be used afterwards."""
        self._data.close()
        self._sums_file.close()

    @staticmethod
    def exist(path: Path) -> bool:
        """Whether there are slots at a path."""
        return _file(path, ".sums").exists()

    @staticmethod
    def delete(path: Path) -> None:
        """Remove the slots at a path, if there are any; the checksums first."""
        for suffix in (".sums", ".data"):
            _file(path, suffix).unlink(missing_ok=True)

    def _verify(self) -> None:
        for index in np.flatnonzero(self._sums).tolist():
            content = self._data.read(self._bytes, index * self._bytes)
            if _checksum(content, index) != self._sums[index]:
                # In the file as well, for processes that watch it.
                self._sums_file.write(bytes(4), 4 * index)
                self._sums[index] = 0


class _File:
    """An open file of a fixed length; a shorter one is extended with zeros."""

    def __init__(self, path: Path, length: int) -> None:
        self._descriptor = open_to_keep(path)
        self.close = weakref.finalize(self, os.close, self._descriptor)
        os.ftruncate(self._descriptor, length)

    def read(self, count: int, offset: int) -> bytes:
        content = os.pread(self._descriptor, count, offset)
        if len(content) != count:
            raise OSError(errno.EIO, "a file of the run directory has become shorter")
        return content

    def write(self, content: bytes | memoryview, offset: int) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def sync(self) -> None:
        os.fsync(self._descriptor)


class WatchedSlots:
    """Read-only slots of a file that another process may be filling.

    Every block is verified when it is read. Raises ``LookupError`` for a missing or incomplete block.
    """

    def __init__(self, path: Path, count: int, capacity: int, dtype: DTypeLike) -> None:
        self._path, self._count, self._dtype = path, count, np.dtype(dtype)
        self._bytes = capacity * self._dtype.itemsize
        self._sums = np.zeros(count, np.uint32)
        # A function without a reference to this object, so that the cache is freed together with the object.
        read = partial(_checked_block, _file(path, ".data"), self._bytes)
        self._cached = lru_cache(maxsize=max(4, _CACHE_BYTES // self._bytes))(read)
        self.refresh()

    def refresh(self) -> int:
        """Read which slots are filled now. Returns their number."""
        content = _bytes_of(_file(self._path, ".sums"))[: 4 * self._count]
        self._sums = np.frombuffer(content.ljust(4 * self._count, b"\0"), np.uint32)
        return int(np.count_nonzero(self._sums))

    def __contains__(self, index: int) -> bool:
        return bool(self._sums[index])

    def read(self, index: int) -> Values:
        """The block's values, flat."""
        return np.frombuffer(self._cached(index, int(self._sums[index])), self._dtype)

    def write(self, index: int, values: Values) -> None:
        """Always raises ``PermissionError``."""
        raise PermissionError(f"{self._path}: opened for reading")

    def sync(self) -> None:
        """Nothing was written."""


def _bytes_of(path: Path) -> bytes:
    """The content of a file; empty for a pipe, which could block."""
    try:
        return read_whole(path)
    except NotAFileError:
        return b""


def _checked_block(path: Path, count: int, index: int, checksum: int) -> bytes:
    content = b""
    # Pipes and directories are ignored.
    with suppress(NotAFileError), os.fdopen(open_to_read(path), "rb") as file:
        content = os.pread(file.fileno(), count, index * count)
    if _checksum(content, index) != checksum:
        raise LookupError(f"{path}: block {index} is not there")
    return content


def _file(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _checksum(content: bytes | memoryview, index: int) -> int:
    """The checksum of a block with its index, never 0, so that a block at another index does not match."""
    return zlib.crc32(content, index + 1) or 1
