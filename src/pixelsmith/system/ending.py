"""Ending by a signal as by Ctrl-C: what was made for this process alone is removed on the way out."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_SIGNALS = ("SIGTERM", "SIGHUP")
"""What ends a process at once: the system's request to end, and a terminal that was closed."""


class Terminated(KeyboardInterrupt):
    """A signal asked this process to end; ``code`` is the exit code that says so."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = 128 + number


def end_orderly() -> None:
    """Raise ``Terminated`` in the main thread where such a signal comes, unless it is ignored or handled already."""
    if threading.current_thread() is not threading.main_thread():
        return
    for name in _SIGNALS:
        # Not every system has each.
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    # Once is enough: a second one must not end the cleaning up.
    signal.signal(number, signal.SIG_IGN)
    raise Terminated(number)
