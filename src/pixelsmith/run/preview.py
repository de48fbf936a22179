"""The preview file of a run: a small picture in its directory that is updated while the run continues."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pixelsmith.errors import InputError
from pixelsmith.events import Event, Observer, PhaseFinished, Progress
from pixelsmith.run.shown import write_preview
from pixelsmith.system.memory import give_back_memory

PREVIEW_SECONDS = 60.0
"""The interval of updates in seconds while tiles are decoded."""
PREVIEW_COST = 50
"""The interval is at least this multiple of the time that a preview takes to write."""


def with_preview(observer: Observer, run_dir: Path) -> Observer:
    """An observer that also writes the preview file, every minute while tiles are decoded."""
    due = time.monotonic() + PREVIEW_SECONDS

    def observe(event: Event) -> None:
        nonlocal due
        observer(event)
        decoded = isinstance(event, (Progress, PhaseFinished)) and event.phase == "decode"
        began = time.monotonic()
        if decoded and (isinstance(event, PhaseFinished) or began > due):
            # A preview must not end a run. A damaged tile is found and made again when the run needs it.
            with suppress(LookupError, OSError, InputError):
                write_preview(run_dir)
            give_back_memory()
            spent = time.monotonic() - began
            due = time.monotonic() + max(PREVIEW_SECONDS, PREVIEW_COST * spent)

    return observe
