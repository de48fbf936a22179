"""Server-sent events: each page gets the latest state of each job, however slowly it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

MAX_LISTENERS = 100
BEAT_SECONDS = 15.0
"""How often a comment is sent where there is nothing to tell, so that a page that is gone is noticed."""


class _Listener:
    """What one page has not been told yet: of a job only the latest state, so it does not grow."""

    def __init__(self) -> None:
        self.untold: dict[str, str] = {}
        self.something = asyncio.Event()


class Broadcast:
    """Tells all that listen; ``tell`` may be called by any thread."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin, in the loop of the server."""
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MAX_LISTENERS

    def tell(self, key: str, values: Mapping[str, Any]) -> None:
        """Tell the state of what ``key`` names; it takes the place of an earlier one that was not read."""
        if self._loop is not None:
            # Before the server begins and after it ends nobody listens.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._spread, key, f"data: {json.dumps(values)}\n\n")

    def _spread(self, key: str, text: str) -> None:
        for listener in self._listeners:
            listener.untold[key] = text
            listener.something.set()

    async def stream(self) -> AsyncIterator[str]:
        """What is told from now on, as the text of an event stream."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield "retry: 1000\n\n"
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.something.wait(), BEAT_SECONDS)
                listener.something.clear()
                untold, listener.untold = listener.untold, {}
                yield "".join(untold.values()) or ": still here\n\n"
        finally:
            self._listeners.discard(listener)
