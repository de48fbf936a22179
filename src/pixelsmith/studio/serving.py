"""The studio's server: uvicorn, on this machine."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import uvicorn

from pixelsmith.errors import RequestError
from pixelsmith.studio.application import application
from pixelsmith.studio.guard import TimelyProtocol
from pixelsmith.studio.library import Library
from pixelsmith.system.durable import read_whole, write_new

MOST_CONNECTIONS = 300
_TOKEN = ".token"  # noqa: S105 (the name of a file)
_CLOSING_SECONDS = 2


class StudioServer:
    """Serves the library in ``folder`` at ``url``, which has the token; use it in a ``with`` statement.

    ``port`` 0 takes a free one. Raises ``RequestError`` where the folder or the address cannot be used, and
    ``MissingPartError`` where the page was not built into this install.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        # Before anything is made in the folder.
        self._socket = _bound(host, port)
        try:
            self.token = _token_of(Library(folder).folder)
            self.address = str(self._socket.getsockname()[0])
            app = application(folder, self.address, self.token)
        except BaseException:
            self._socket.close()
            raise
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=TimelyProtocol,
                ws="none",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        name = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{name}:{self.port}/?token={self.token}"

    def serve_forever(self) -> None:
        """Serve until ``shutdown``, or Ctrl-C in the main thread; what computes is paused then."""
        self._server.run(sockets=[self._socket])

    def shutdown(self) -> None:
        """End ``serve_forever``, from any thread."""
        self._server.should_exit = True

    def __enter__(self) -> StudioServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        if not host:
            raise OSError("it has no name")
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise RequestError(f"address: {host}:{port} cannot be used ({error})") from error


def _token_of(folder: Path) -> str:
    """The library's own, so that a page that is open goes on with the next server."""
    path = folder / _TOKEN
    with suppress(FileExistsError):
        write_new(path, secrets.token_urlsafe(16).encode())
        path.chmod(0o600)
    try:
        token = read_whole(path).decode()
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: the token cannot be read ({error}); remove the file for another one") from error
    if len(token) < 16 or not token.isascii() or os.linesep in token:
        raise RequestError(f"{path}: this is no token; remove the file for another one")
    return token
