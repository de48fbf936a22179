"""This process's own memory, which the C library keeps for later where it can."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""What ``mallopt(3)`` calls the size from which a block is no part of the heap, and that of the heap's free end."""
_LARGE, _LARGEST = 4 << 20, 32 << 20
"""Bytes of a block that is apart here, and of one that glibc has apart in a process that ever freed one as large."""


def give_back_memory() -> None:
    """Return freed memory to the system where the C library keeps it (glibc)."""
    _call("malloc_trim", 0)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Within this context large blocks are the system's, not the heap's: each is gone when it is freed (glibc).

    An autoencoder makes blocks of many sizes, tile after tile. In a heap they would leave holes that others do not fit
    in: the peak would be that of the unluckiest tile, of which a larger picture has more.
    """
    _call("mallopt", _TRIM_THRESHOLD, 2 * _LARGEST)
    _call("mallopt", _MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _call("mallopt", _MMAP_THRESHOLD, _LARGEST)


def _call(name: str, *values: int) -> None:
    with suppress(OSError, AttributeError, TypeError):
        getattr(ctypes.CDLL(None), name)(*values)
