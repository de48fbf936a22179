"""A web server on this machine: uvicorn on a socket of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from pixelsmith.errors import RequestError
from pixelsmith.web.guard import HEADERS, TimedProtocol

MAX_CONNECTIONS = 300
_SHUTDOWN_SECONDS = 2


class WebServer:
    """Serves an application at ``url``; use it in a ``with`` statement.

    ``port`` 0 takes a free one. ``application`` is called with the address that the server listens on. The socket is
    open from the start, so a client that connects before ``serve_forever`` waits.

    Raises ``RequestError`` where the address cannot be used.
    """

    def __init__(self, application: Callable[[str], ASGIApp], host: str, port: int) -> None:
        self._socket = _listening(host, port)
        self.address: str
        self.port: int
        self.address, self.port = self._socket.getsockname()[:2]
        try:
            app = application(self.address)
        except BaseException:
            self._socket.close()
            raise
        config = uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="none",
            headers=list(HEADERS.items()),
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
        self._server = uvicorn.Server(config)

    @property
    def url(self) -> str:
        name = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{name}:{self.port}/"

    def serve_forever(self) -> None:
        """Serve until ``shutdown``, or Ctrl-C in the main thread."""
        self._server.run(sockets=[self._socket])

    def shutdown(self) -> None:
        """End ``serve_forever``, from any thread."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        if not host:
            raise OSError("it has no name")
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise RequestError(f"address: {host}:{port} cannot be used ({error})") from error
