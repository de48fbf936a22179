"""A small picture of a run in its directory, to look at while it goes on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from pixelsmith.errors import InputError
from pixelsmith.events import Event, Observer, PhaseFinished, Progress
from pixelsmith.run.shown import write_preview
from pixelsmith.system.memory import give_back_memory

PREVIEW_SECONDS = 60.0
"""How old a preview may get while a picture is decoded."""
PREVIEW_COST = 50
"""How many times as long as a preview took the next one waits."""


def with_preview(observer: Observer, run_dir: Path) -> Observer:
    """Also keeps a small picture of the run in its directory, updated every minute while tiles are decoded."""
    due = time.monotonic() + PREVIEW_SECONDS

    def observe(event: Event) -> None:
        nonlocal due
        observer(event)
        decoded = isinstance(event, (Progress, PhaseFinished)) and event.phase == "decode"
        began = time.monotonic()
        if decoded and (isinstance(event, PhaseFinished) or began > due):
            # A picture to look at must not end a run: what is damaged is made again when its turn comes.
            with suppress(LookupError, OSError, InputError):
                write_preview(run_dir)
            give_back_memory()
            spent = time.monotonic() - began
            due = time.monotonic() + max(PREVIEW_SECONDS, PREVIEW_COST * spent)

    return observe
