"""Rate limiting of calls such as ``fsync``."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 1.0
"""The work in seconds that a power loss may cost; a flush takes as long as a batch of a small model."""


class Seldom:
    """Calls a function, unless the last call, or the creation of this object, was less than ``seconds`` ago."""

    def __init__(self, call: Callable[[], None], seconds: float = SECONDS) -> None:
        self._call, self._seconds, self._last = call, seconds, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= self._seconds:
            self._call()
            self._last = time.monotonic()
