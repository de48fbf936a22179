"""Suppression of the libraries' output; Pixelsmith prints its own messages."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_hub(bars: bool = False) -> Iterator[None]:
    """In this context the hub's library prints no messages; ``bars``: whether it shows progress bars of downloads.

    Bars that the user has disabled stay disabled. This does not import diffusers, which takes seconds.
    """
    import huggingface_hub.utils as hub
    import huggingface_hub.utils.logging as hub_log

    log: Any = hub_log
    level, without_bars = log.get_verbosity(), _without_bars(hub)
    log.set_verbosity_error()
    _show_bars(hub, bars and not without_bars)
    try:
        yield
    finally:
        log.set_verbosity(level)
        _show_bars(hub, not without_bars)


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """In this context diffusers and transformers print no progress bars, messages or developer warnings.

    ``bars``: whether progress bars of downloads are shown.
    """
    import huggingface_hub.utils as hub

    with _without_logs():
        import diffusers.pipelines.pipeline_utils  # noqa: F401 (it imports what remarks)
        import diffusers.utils.logging as diffusers_log
        import transformers.utils.logging as transformers_log

    logs: list[Any] = [diffusers_log, transformers_log]
    bars = bars and not _without_bars(hub)
    with quiet_hub(), warnings.catch_warnings(action="ignore"):
        states = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        # Enabling the bars of transformers also enables those of the hub.
        _show_bars(hub, bars)
        try:
            yield
        finally:
            for log, (level, with_bars) in zip(logs, states, strict=True):
                log.set_verbosity(level)
                if with_bars:
                    log.enable_progress_bar()


def _without_bars(hub: Any) -> bool:
    return bool(hub.are_progress_bars_disabled())


def _show_bars(hub: Any, shown: bool) -> None:
    # If an environment variable controls the bars, changing them only causes a warning.
    with warnings.catch_warnings(action="ignore"):
        (hub.enable_progress_bars if shown else hub.disable_progress_bars)()


@contextmanager
def _without_logs() -> Iterator[None]:
    """In this context nothing is logged, because libraries that diffusers imports log what they were built without."""
    level = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(level)
