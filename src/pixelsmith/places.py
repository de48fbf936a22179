"""Paths as users write them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pixelsmith.errors import RequestError


def at_home(path: str | Path) -> Path:
    """A path, in the home folder that it begins with (``~``, ``~user``); as it is where there is no such user."""
    # pathlib's own raises where there is none.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def picture_path(name: str, path: str) -> str:
    """A picture that a request names, in the user's home where it begins with ``~``.

    ``name``: what it is called in messages. Raises ``RequestError`` for nothing and for an address.
    """
    if not path.strip():
        raise RequestError(f"{name}: it is empty; give the path of a picture file")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise RequestError(f"{name}: expected the path of a file on this machine, got the address {path}")
    return str(at_home(path)) if path.startswith("~") else path
