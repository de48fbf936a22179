"""Ending a run from another thread."""

from __future__ import annotations

from threading import Event

from pixelsmith.errors import CancelledError


class CancelToken:
    """Ends the runs that it is passed to; any thread may call ``cancel``.

    A run checks it after each batch of patches, tile, and band of rows. A run directory is kept, so the run can be
    resumed.
    """

    def __init__(self) -> None:
        self._event = Event()

    def cancel(self) -> None:
        """End the runs."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise ``CancelledError`` after ``cancel`` was called."""
        if self.cancelled:
            raise CancelledError("the run was cancelled")
