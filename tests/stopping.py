"""What interrupts a run as Ctrl-C does, at a place of the work that a test chooses."""

from __future__ import annotations

from typing import Any

from pixelsmith import Observer, Progress
from pixelsmith.events import Event


def stop_at(**place: Any) -> Observer:
    """An observer that raises ``KeyboardInterrupt`` at the first ``Progress`` with these values."""

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and all(getattr(event, name) == value for name, value in place.items()):
            raise KeyboardInterrupt

    return stop
