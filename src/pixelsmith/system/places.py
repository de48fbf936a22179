"""Paths as users write them."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

from pixelsmith.errors import RequestError

_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says where there is nothing by a name."""


def at_home(path: str | Path) -> Path:
    """A path, in the home folder that it begins with (``~``, ``~user``); as it is where there is no such user."""
    # pathlib's own raises where there is none.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def given_place(name: str | Path) -> Path:
    """Where a file or a folder is that a user names, ``~`` being the home folder; there may be nothing.

    Raises ``RequestError``, at once, for an empty name, a pipe, a socket or a device, and for what cannot be looked at.
    """
    if not str(name).strip():
        raise RequestError("a path is empty; give that of a file or a folder, or leave its option out")
    place = at_home(name)
    try:
        mode = place.stat().st_mode
    except ValueError:
        # A name with a zero in it, which no file has.
        return place
    except OSError as error:
        if error.errno in _NOTHING:
            return place
        raise RequestError(f"{name}: it cannot be read ({error.strerror})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise RequestError(f"{name}: expected a file or a folder, there is a pipe, a socket or a device")
    return place


def picture_path(name: str, path: str) -> str:
    """A picture that a request names, in the user's home where it begins with ``~``.

    ``name``: what it is called in messages. Raises ``RequestError`` for nothing and for an address.
    """
    if not path.strip():
        raise RequestError(f"{name}: it is empty; give the path of a picture file")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise RequestError(f"{name}: expected the path of a file on this machine, got the address {path}")
    return str(at_home(path)) if path.startswith("~") else path
