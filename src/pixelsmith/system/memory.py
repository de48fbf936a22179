"""Control of the C library's memory allocation."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
"""Parameters of ``mallopt(3)``: the size from which a block is allocated with mmap, and that of the heap's free end."""
_LARGE, _LARGEST = 4 << 20, 32 << 20
"""The mmap threshold in bytes that is set here, and the largest one to which glibc raises it by itself."""


def give_back_memory() -> None:
    """Return freed memory to the system if the C library keeps it (glibc)."""
    _call("malloc_trim", 0)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """In this context large blocks are allocated with mmap, so that freed ones are returned at once (glibc).

    An autoencoder allocates blocks of many sizes for each tile, which would fragment the heap, and the peak would be
    that of the worst tile, which is higher for larger pictures.
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
