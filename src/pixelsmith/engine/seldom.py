"""What is worth doing again and again, but not each time."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 1.0
"""Of work that a power loss may cost. To wait for a disk takes as long as a small model's batch."""


class Seldom:
    """Calls something when it is called, unless it did so less than ``seconds`` ago, or began to."""

    def __init__(self, call: Callable[[], None], seconds: float = SECONDS) -> None:
        self._call, self._seconds, self._last = call, seconds, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._last >= self._seconds:
            self._call()
            self._last = time.monotonic()
