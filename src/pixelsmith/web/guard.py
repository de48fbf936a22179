"""What stands before every route: which requests are accepted, and how long a client may take."""

from __future__ import annotations

import asyncio
import re
import secrets

import h11
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every response: other sites can neither frame nor load it, and do not see its URL with the token."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine that cannot belong to another one."""
TIMEOUT = 60
"""Seconds in which a client must send the head of a request, or its body, and take each part of a response."""
_READ_METHODS = ("GET", "HEAD")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\s:/?#@\[\]]+)(:[0-9]{1,5})?")


class Guard:
    """An ASGI application behind checks of the Host and Origin headers and of a token.

    ``address`` is where the server listens. With a ``token``, requests that change something need it; where other
    machines can connect, all requests do but those for the paths in ``public``.
    """

    def __init__(
        self, app: ASGIApp, address: str, token: str | None = None, public: frozenset[str] = frozenset()
    ) -> None:
        self._app, self._address, self._token, self._public = app, address, token, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), TIMEOUT)

        refusal = self.refusal(scope)
        app = self._app if refusal is None else JSONResponse({"error": refusal[1]}, refusal[0])
        await app(scope, receive, send_in_time)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """The status and message of a request that is refused; ``None`` for others."""
        headers = Headers(scope=scope)
        host = _host(headers.getlist("host"))
        if host is None:
            return 400, "expected one valid Host header"
        # Another site can point a name of its own at this machine (DNS rebinding).
        if self._address in LOOPBACK and host not in LOOPBACK:
            return 403, "this server answers to names of its own machine only"
        if any(origin.lower() != f"http://{headers['host'].strip().lower()}" for origin in headers.getlist("origin")):
            return 403, "pages of other sites cannot use this server"
        if self._token is not None and self._needs_token(scope) and not self._has_token(scope, self._token):
            return 401, "the token is missing or wrong: use the address that 'pixelsmith studio' printed"
        return None

    def _needs_token(self, scope: Scope) -> bool:
        if scope["method"] not in _READ_METHODS:
            return True
        return self._address not in LOOPBACK and scope["path"] not in self._public

    @staticmethod
    def _has_token(scope: Scope, token: str) -> bool:
        given = QueryParams(scope["query_string"]).get("token", "")
        return secrets.compare_digest(given.encode("utf-8", "replace"), token.encode())


def _host(values: list[str]) -> str | None:
    """The name in the Host header; ``None`` where it is malformed, missing, or there are several.

    A proxy on the way may have read another one of several.
    """
    found = _HOST.fullmatch(values[0].strip()) if len(values) == 1 else None
    return None if found is None else found["name"].strip("[]").lower()


class TimedProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a limit of ``TIMEOUT`` seconds for the head of each request."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_limit()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel_limit()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # With pipelining the next request may have begun.
        if self.conn.their_state is h11.IDLE:
            self._start_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_limit()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """With the headers of every response; without a response where one has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [*self.server_state.default_headers, (b"connection", b"close")]
            response = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            for event in (response, h11.Data(data=msg.encode()), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _start_limit(self) -> None:
        self._cancel_limit()
        self._limit = self.loop.call_later(TIMEOUT, self.transport.close)

    def _cancel_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises ``HTTPException`` (413) over ``limit`` bytes, and (408) after ``TIMEOUT``."""
    body = bytearray()
    try:
        async with asyncio.timeout(TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"expected at most {limit:,} bytes")
    except TimeoutError as error:
        raise HTTPException(408, "the body did not arrive in time") from error
    return bytes(body)
