"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path


def at_home(path: str | Path) -> Path:
    """A path, in the home folder that it begins with (``~``, ``~user``); as it is where there is no such user."""
    # pathlib's own raises where there is none.
    return Path(os.path.expanduser(path))  # noqa: PTH111
