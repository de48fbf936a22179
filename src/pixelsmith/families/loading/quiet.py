"""Keep what the libraries print to themselves: what a user must know, Pixelsmith says."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_hub(bars: bool = False) -> Iterator[None]:
    """While open, the hub's library does not remark that it is offline; with ``bars`` those of downloads are shown.

    Bars that the user has switched off stay off. It imports in moments, diffusers in seconds.
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
    """While open, diffusers and transformers print no progress bars, no remarks and no warnings to developers.

    With ``bars`` those of downloads are shown.
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
        # The bars of transformers switch those of the hub as well.
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
    # Where an environment variable decides on the bars, switching them is only warned of.
    with warnings.catch_warnings(action="ignore"):
        (hub.enable_progress_bars if shown else hub.disable_progress_bars)()


@contextmanager
def _without_logs() -> Iterator[None]:
    """While open, nothing is logged: libraries that diffusers imports remark on what they were built without."""
    level = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(level)
