"""Opening and writing files safely: without following links or overwriting, and durable after a power loss.

A run directory, or the folder of an output, may come from somebody else. A link in it must not redirect a write to
another file, and a pipe or a device instead of a file must not block a run.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

PARTIAL = ".partial"
"""The suffix of incomplete files."""
_INCOMPLETE = re.compile(rf"\.[0-9a-f]{{8}}{re.escape(PARTIAL)}$")
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""The error numbers for a link, a folder, and a pipe or a socket without a reader."""
_EXPECTED = "expected a file, not a link, a folder, a pipe or a device"


class NotAFileError(OSError):
    """Raised if there is a link, a folder, a pipe or a device instead of a file."""


def open_to_read(path: Path) -> int:
    """A descriptor for reading a file; links are followed. Raises ``OSError``."""
    return _file(path, os.O_RDONLY, follow=True)


def open_to_keep(path: Path) -> int:
    """A descriptor for reading and writing a file, which is created if it does not exist. Raises ``OSError``."""
    descriptor = _file(path, os.O_RDWR | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise NotAFileError(errno.EMLINK, "expected a file with no other name", str(path))
    return descriptor


def read_whole(path: Path) -> bytes:
    """The content of a file. Raises ``OSError``, for a pipe or a device without waiting."""
    with os.fdopen(open_to_read(path), "rb") as file:
        return file.read()


class FileState(NamedTuple):
    """Properties of a file that change with its content; programs cannot set the time of its last status change."""

    size: int
    modified: int
    changed: int
    inode: int


def state_of(path: Path) -> FileState | None:
    """The state of a file, with times in nanoseconds; ``None`` if it cannot be read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def read_object(content: str | bytes) -> dict[str, Any]:
    """A JSON object from its text. Raises ``ValueError`` for any other text."""
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, got {type(values).__name__}")
    return values


def hold(lock: FileLock) -> None:
    """Acquire a lock without waiting.

    Raises ``filelock.Timeout`` if another process has it, and ``OSError`` if the file cannot be created, which the
    library itself may report as a timeout.
    """
    os.close(open_to_keep(Path(lock.lock_file)))
    lock.acquire()


def write_new(path: Path, content: bytes) -> None:
    """Write a new file. Raises ``OSError``, also if the file exists."""
    with os.fdopen(_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Write or replace a file atomically and durably."""
    if path.is_dir() and not path.is_symlink():
        # The system's error would name the partial file.
        raise NotAFileError(errno.EISDIR, _EXPECTED, str(path))
    # With a random name, so that two writers never use the same file.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        write_new(partial, content)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    flush(path.parent)


def is_incomplete(path: Path) -> bool:
    """Whether this is a file that ``write_whole`` leaves if its process is killed, by its name."""
    return _INCOMPLETE.search(path.name) is not None


def flush(*paths: Path) -> None:
    """Flush files and entries of folders to the disk, if the system supports it."""
    if os.name != "posix":
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _file(path: Path, flags: int, follow: bool = False) -> int:
    """Open a file, without waiting for the other end of a pipe."""
    # Each of these flags is missing on some system.
    names = ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC", *(() if follow else ("O_NOFOLLOW",)))
    for name in names:
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise NotAFileError(error.errno, _EXPECTED, str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError(errno.EINVAL, _EXPECTED, str(path))
    return descriptor
