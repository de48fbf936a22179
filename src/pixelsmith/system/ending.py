"""Handling of termination signals like Ctrl-C, so that temporary files are removed."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGHUP")
"""Signals that would end the process at once: a request to terminate, and a closed terminal."""


class Terminated(KeyboardInterrupt):
    """Raised by a termination signal; ``code``: the exit code for it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


def end_orderly() -> None:
    """Let such signals raise ``Terminated`` in the main thread, unless they are ignored or have a handler."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _SIGNALS:
        # Not every system has both.
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # A second signal must not interrupt the cleanup.
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)
