"""Ctrl-C on the command line: one line and exit code 130 at any time, without a traceback.

This is imported first, because the package's dependencies take seconds to import, during which Python would print a
traceback.
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
"""Within this time a second Ctrl-C counts as the first one, because a process and its parent often get one each."""


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"pixelsmith: interrupted\n")
    os._exit(130)


class _Once:
    """A handler that raises ``KeyboardInterrupt`` for a clean end, and ends the process if it is called again."""

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
    """In this context the first Ctrl-C raises ``KeyboardInterrupt``, and a later one ends the process.

    If Ctrl-C is ignored, as in the background of a shell, or has another handler, nothing is changed.
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
        # After an interrupt the process only ends, and another one must not print a traceback.
        if handler.first is None:
            signal.signal(signal.SIGINT, before)


if _is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)
