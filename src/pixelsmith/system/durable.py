"""Opening files: nothing is written through a link or over what is there, and what was written survives a power loss.

A run directory, or the folder of an output, may come from someone else. A link in it must not lead a write to another
file, and a pipe or a device instead of a file must not hold a run up.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

PARTIAL = ".partial"
"""What the names of files that are not yet whole end in."""
_NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What the system says of a link, a folder, and a pipe or a socket that nobody reads."""
_EXPECTED = "expected a file, not a link, a folder, a pipe or a device"


class NotAFileError(OSError):
    """There is a link, a folder, a pipe or a device where a file is expected."""


def open_to_read(path: Path) -> int:
    """A descriptor of a file for reading; of a link, of what it leads to. Raises ``OSError``."""
    return _file(path, os.O_RDONLY, follow=True)


def open_to_keep(path: Path) -> int:
    """A descriptor for reading and writing a file that stays, made where there is none. Raises ``OSError``."""
    descriptor = _file(path, os.O_RDWR | os.O_CREAT)
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise NotAFileError(errno.EMLINK, "expected a file with no other name", str(path))
    return descriptor


def read_whole(path: Path) -> bytes:
    """The content of a file. Raises ``OSError``, at once where it is a pipe or a device."""
    with os.fdopen(open_to_read(path), "rb") as file:
        return file.read()


class FileState(NamedTuple):
    """What of a file is another value whenever its content is: no program can set the time of its last change."""

    size: int
    modified: int
    changed: int
    inode: int


def state_of(path: Path) -> FileState | None:
    """The state of a file; times are nanoseconds. ``None`` where it cannot be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def read_object(content: str | bytes) -> dict[str, Any]:
    """A JSON object from its text. Raises ``ValueError`` for anything else, however it is wrong."""
    try:
        values = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError(f"expected an object, got {type(values).__name__}")
    return values


def hold(lock: FileLock) -> None:
    """Take a lock that does not wait.

    Raises ``filelock.Timeout`` where another process has it, and ``OSError`` where no such file can be made, which the
    lock itself can take for another process.
    """
    os.close(open_to_keep(Path(lock.lock_file)))
    lock.acquire()


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there. Raises ``OSError``, also where there is something by this name."""
    with os.fdopen(_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it, so that it is there whole or not at all, also after a power loss."""
    if path.is_dir() and not path.is_symlink():
        # The system would name the partial file.
        raise NotAFileError(errno.EISDIR, _EXPECTED, str(path))
    # By a name that no other process has: two writers do not meet in one file.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        write_new(partial, content)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    flush(path.parent)


def flush(*paths: Path) -> None:
    """Return when files and the entries of folders would survive a power loss, where the system can tell."""
    if os.name != "posix":
        return
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _file(path: Path, flags: int, follow: bool = False) -> int:
    """Open what must be a file, without waiting for the other end of a pipe."""
    # Each of these is missing on some system.
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
