"""The studio's server: an application for a library of projects."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from starlette.types import ASGIApp

from pixelsmith.errors import RequestError
from pixelsmith.studio.application import application
from pixelsmith.studio.library import Library
from pixelsmith.system.durable import hold, read_whole, write_new, write_whole
from pixelsmith.web.listening import WebServer

_TOKEN = ".token"  # noqa: S105 (the name of a file)
_LOCK, _ADDRESS = ".lock", ".address"
"""Held while a server runs, and where that one is: two would overwrite the states of each other's jobs."""


class StudioServer(WebServer):
    """Serves the library in ``folder`` at ``url``, which has the token; use it in a ``with`` statement.

    ``port`` 0 takes a free one. On shutdown the running job is paused. Raises ``RequestError`` where the folder or the
    address cannot be used, or another server has the folder, and ``MissingPartError`` where the page was not built into
    this install.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._folder = folder
        super().__init__(self._application, host, port)

    def _application(self, address: str) -> ASGIApp:
        folder = Library(self._folder).folder
        self._lock = _held(folder)
        try:
            self.token = _token_of(folder)
            found = application(self._folder, address, self.token)
            write_whole(folder / _ADDRESS, self.url.split("?")[0].encode())
        except BaseException:
            self._lock.release()
            raise
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._lock.release()

    def _url_at(self, address: str) -> str:
        return f"{super()._url_at(address)}?token={self.token}"


def _held(folder: Path) -> FileLock:
    """The lock of a library, held. Raises ``RequestError`` if another server has it."""
    lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
    try:
        hold(lock)
    except Timeout as error:
        where = "in another studio"
        with suppress(OSError, ValueError):
            where = f"at {read_whole(folder / _ADDRESS).decode()}?token={_token_of(folder)}"
        raise RequestError(f"{folder}: it is open already {where}") from error
    except OSError as error:
        raise RequestError(f"{folder}: projects cannot be stored here ({error.strerror})") from error
    return lock


def _token_of(folder: Path) -> str:
    """The token of a library, stored in it, so that an open page keeps working after a restart of the server."""
    path = folder / _TOKEN
    with suppress(FileExistsError):
        write_new(path, secrets.token_urlsafe(16).encode())
        path.chmod(0o600)
    try:
        token = read_whole(path).decode()
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: the token cannot be read ({error}); delete the file to get a new one") from error
    if len(token) < 16 or not token.isascii() or os.linesep in token:
        raise RequestError(f"{path}: this is no valid token; delete the file to get a new one")
    return token
