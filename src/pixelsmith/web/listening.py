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
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (whoever serves chooses it)
"""Addresses that stand for all of this machine's own, which is no address to connect to, and the one to use here."""
_ELSEWHERE = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104
"""Addresses for documentation: the way to any of them begins at this machine's address in its network."""


class WebServer:
    """Serves an application at ``url``, for this machine; use it in a ``with`` statement.

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
        return self._url_at(_LOCAL.get(self.address, self.address))

    @property
    def whereabouts(self) -> str:
        """``url``, and the one for other machines where the server listens for them on all addresses."""
        address = _address_in_network(self.address)
        return self.url if address is None else f"{self.url} and for other machines at {self._url_at(address)}"

    def _url_at(self, address: str) -> str:
        name = f"[{address}]" if ":" in address else address
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


def _address_in_network(address: str) -> str | None:
    """This machine's address in its network, for an address that stands for all; ``None`` where there is none."""
    if address not in _ELSEWHERE:
        return None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Nothing is sent: it only chooses the address from which it would be.
            probe.connect((_ELSEWHERE[address], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None
