"""Keep what the libraries print to themselves: what a user must know, Pixelsmith says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_hub() -> Iterator[None]:
    """While open, the hub's library does not remark that it is offline. It imports in moments, diffusers in seconds."""
    import huggingface_hub.utils.logging as hub_log

    logging: Any = hub_log
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


@contextmanager
def quiet() -> Iterator[None]:
    """While open, diffusers and transformers print no progress bars, no remarks and no warnings to developers."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs: list[Any] = [diffusers_log, transformers_log]
    levels = [log.get_verbosity() for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        with quiet_hub(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.set_verbosity(level)
            log.enable_progress_bar()
