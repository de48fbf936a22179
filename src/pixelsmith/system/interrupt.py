"""Ctrl-C on the command line: one line and exit code 130 at any moment, without a traceback.

Imported before all else: what the package needs takes seconds to import, and Python would end them with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_AGAIN_SECONDS = 1.0
"""Within which a second Ctrl-C is taken for the first: a process and its parent often get one each."""


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"pixelsmith: interrupted\n")
    os._exit(130)


class _Once:
    """The first one raises ``KeyboardInterrupt``, so that all is left in order; a later one ends the process."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self.first > _AGAIN_SECONDS:
            _end(number, frame)


def _is_program() -> bool:
    """Whether this process is the command line, and not one that imports the package."""
    started = sys.argv[0] if sys.argv else ""
    return Path(started).stem == "pixelsmith" or (started == "-m" and "pixelsmith" in sys.orig_argv)


@contextmanager
def interruptible() -> Iterator[None]:
    """While open, the first Ctrl-C is a ``KeyboardInterrupt`` and one after it ends the process.

    Where Ctrl-C is ignored, as in the background of a shell, or somebody else's, it stays so.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before not in (signal.default_int_handler, _end):
        yield
        return
    handler = _Once()
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        # After an interrupt all that remains is to end, and another one must not show where.
        if handler.first is None:
            signal.signal(signal.SIGINT, before)


if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
