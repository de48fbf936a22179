"""Paths as users write them."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from pixelsmith.errors import RequestError

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""The error numbers for a path that does not exist."""


def at_home(path: str | Path) -> Path:
    """A path with ``~`` or ``~user`` expanded; unchanged if there is no such user."""
    # pathlib's own function raises an error in that case.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def given_place(name: str | Path) -> Path:
    """The path of a file or a folder as given by a user, with ``~`` expanded; it may not exist.

    Raises ``RequestError`` for an empty name, a pipe, a socket or a device, without waiting, and for unreadable paths.
    """
    if not str(name).strip():
        raise RequestError("a path is empty; give that of a file or a folder, or leave its option out")
    place = at_home(name)
    try:
        mode = place.stat().st_mode
    except ValueError:
        # A name with a null character, which no file has.
        return place
    except OSError as error:
        if error.errno in _NOTHING:
            return place
        raise RequestError(f"{name}: it cannot be read ({error.strerror})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RequestError(f"{name}: expected a file or a folder, there is a pipe, a socket or a device")
    return place


def picture_path(name: str, path: str) -> str:
    """The path of a picture in a request, with ``~`` expanded.

    ``name``: its name in messages. Raises ``RequestError`` for an empty path and for a URL.
    """
    if not path.strip():
        raise RequestError(f"{name}: it is empty; give the path of a picture file")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise RequestError(f"{name}: expected the path of a file on this machine, got the URL {path}")
    return str(at_home(path)) if path.startswith("~") else path
