"""Server-sent events: each page gets the latest state of each job, however slowly it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

MAX_LISTENERS = 100
BEAT_SECONDS = 15.0
"""Interval of the comments that are sent when nothing changes, to detect closed connections."""


class _Listener:
    """The events that one page has not received: only the latest state of each job, so they do not pile up."""

    def __init__(self) -> None:
        self.untold: dict[str, str] = {}
        self.something = asyncio.Event()


class Broadcast:
    """Sends events to all listeners; ``tell`` may be called from any thread."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Start, in the event loop of the server."""
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MAX_LISTENERS

    def tell(self, key: str, values: Mapping[str, Any]) -> None:
        """Send the state of the object named by ``key``, in place of an earlier one that was not read yet."""
        if self._loop is not None:
            # Before the server starts and after it stops there are no listeners.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._spread, key, f"data: {json.dumps(values)}\n\n")

    def _spread(self, key: str, text: str) -> None:
        for listener in self._listeners:
            listener.untold[key] = text
            listener.something.set()

    async def stream(self) -> AsyncIterator[str]:
        """All events from now on, as the text of a ``text/event-stream``."""
        listener = _Listener()
        self._listeners.add(listener)
        try:
            yield "retry: 1000\n\n"
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.something.wait(), BEAT_SECONDS)
                listener.something.clear()
                untold, listener.untold = listener.untold, {}
                yield "".join(untold.values()) or ": keep-alive\n\n"
        finally:
            self._listeners.discard(listener)
