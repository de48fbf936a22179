"""Ending a run from another thread."""

from __future__ import annotations

from threading import Event

from pixelsmith.errors import CancelledError


class CancelToken:
    """Ends the runs that it was given to; any thread may call ``cancel``.

    A run looks at it after each batch of patches, tile, and band of rows that is written. What it kept in a run
    directory stays there, to go on with.
    """

    def __init__(self) -> None:
        self._event = Event()

    def cancel(self) -> None:
        """Ask the runs to end."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise ``CancelledError`` where the runs are to end."""
        if self.cancelled:
            raise CancelledError("the run was cancelled")
