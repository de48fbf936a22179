"""Keep what the libraries print to themselves: what a user must know, Pixelsmith says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_hub() -> Iterator[None]:
    """While open, the hub's library shows no bars and does not remark that it is offline.

    It imports in moments, diffusers in seconds.
    """
    import huggingface_hub.utils as hub
    import huggingface_hub.utils.logging as hub_log

    bars: Any = hub
    logging: Any = hub_log
    level, without_bars = logging.get_verbosity(), bars.are_progress_bars_disabled()
    logging.set_verbosity_error()
    # Where an environment variable decides on the bars, switching them is only warned of.
    with warnings.catch_warnings(action="ignore"):
        bars.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        with warnings.catch_warnings(action="ignore"):
            (bars.disable_progress_bars if without_bars else bars.enable_progress_bars)()


@contextmanager
def quiet() -> Iterator[None]:
    """While open, diffusers and transformers print no progress bars, no remarks and no warnings to developers."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs: list[Any] = [diffusers_log, transformers_log]
    # The bars of transformers switch those of the hub as well, so the hub's state is kept around them.
    with quiet_hub(), warnings.catch_warnings(action="ignore"):
        states = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        try:
            yield
        finally:
            for log, (level, with_bars) in zip(logs, states, strict=True):
                log.set_verbosity(level)
                if with_bars:
                    log.enable_progress_bar()
