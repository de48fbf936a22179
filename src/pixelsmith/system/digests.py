"""SHA-256 of files and folders, which is cached for large unchanged files."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from pixelsmith.errors import RunError
from pixelsmith.system.durable import state_of
from pixelsmith.system.remembered import Remembered

LARGE = 32 << 20
"""The size in bytes from which a file's digest is cached."""
SETTLED = 2_000_000_000
"""The least age of a change in nanoseconds, because within the resolution of a file system's clock two contents can
have the same time."""
_DIGESTS = Remembered("digests.json")


def digest_of(places: Sequence[Path]) -> str:
    """SHA-256 of several folders and files. Raises ``RunError``."""
    try:
        return hashlib.sha256("\n".join(sha256_of(place) for place in places).encode()).hexdigest()
    except OSError as error:
        raise RunError(f"{error.filename}: it cannot be read ({error.strerror})") from error


def sha256_of(place: Path) -> str:
    """SHA-256 of the names and contents of a folder's files, or of one file. Raises ``OSError``."""
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
    files, root = ([place], place.parent) if place.is_file() else (sorted(place.rglob("*")), place)
    total = hashlib.sha256()
    for path in files:
        if path.is_file():
            total.update(f"{path.relative_to(root)}\0{_of_file(path)}\n".encode())
    return total.hexdigest()


def _of_file(path: Path) -> str:
    """SHA-256 of a file. A large one is read again only if its size, times or inode have changed."""
    before, key = state_of(path), str(path.resolve())
    if before is None or before.size < LARGE:
        return _read(path)
    known = _DIGESTS.get(key)
    if isinstance(known, dict) and known.get("state") == list(before) and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    digest = _read(path)
    if state_of(path) == before and time.time_ns() - max(before.modified, before.changed) > SETTLED:
        _DIGESTS.put(key, {"state": list(before), "sha256": digest})
    return digest


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
