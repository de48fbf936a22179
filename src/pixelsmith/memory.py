"""This process's own memory, which the C library keeps for later where it can."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back_memory() -> None:
    """Return freed memory to the system where the C library keeps it (glibc).

    Tiles of several shapes, one after the other, scatter over a heap that grows with their number. So an autoencoder
    does this after each: seldom done, the peak would be that of the unluckiest sequence, which a larger picture has.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
