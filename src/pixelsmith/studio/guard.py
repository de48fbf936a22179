"""What stands before every route: whose requests are answered, within which time, and what answers forbid."""

from __future__ import annotations

import asyncio
import secrets

import h11
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pixelsmith.viewer.meant import HEAD_SECONDS, HEADERS, LOOPBACK, asked_host, is_meant

_HEADERS = {**HEADERS, "Referrer-Policy": "no-referrer"}
"""The address has the token: no other server is to be told of it."""
_READING = ("GET", "HEAD")


class Guard:
    """An application behind checks of Host, Origin and token; each answer must be taken within ``HEAD_SECONDS``.

    What changes something needs the token. On an address that other machines reach all but the page's own files does.
    """

    def __init__(self, app: ASGIApp, address: str, token: str, free: frozenset[str]) -> None:
        self._app, self._address, self._token, self._free = app, address, token, free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            # A client that does not read is not waited for.
            await asyncio.wait_for(send(message), HEAD_SECONDS)

        refused = self._refused(scope)
        app = self._app if refused is None else JSONResponse({"error": refused[1]}, refused[0])
        await app(scope, receive, answer)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        """The status and the reason why a request is not answered."""
        headers = Headers(scope=scope)
        host = asked_host(headers.getlist("host"))
        if host is None:
            return 400, "expected one Host header"
        if not is_meant(self._address, host):
            return 403, "this server answers names of its own machine"
        origins = headers.getlist("origin")
        if any(origin.lower() != f"http://{headers['host'].strip().lower()}" for origin in origins):
            return 403, "pages of others may not use this server"
        if self._needs_token(scope) and not self._has_token(scope):
            return 401, "the token is missing or wrong: take the address that 'pixelsmith studio' printed"
        return None

    def _needs_token(self, scope: Scope) -> bool:
        if scope["method"] not in _READING:
            return True
        return self._address not in LOOPBACK and scope["path"] not in self._free

    def _has_token(self, scope: Scope) -> bool:
        given = QueryParams(scope["query_string"]).get("token", "")
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())


class TimelyProtocol(H11Protocol):
    """HTTP/1.1 where a request is asked for within ``HEAD_SECONDS``, however slowly its bytes come."""

    _until: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop()
        self._until = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop(self) -> None:
        if self._until is not None:
            self._until.cancel()
            self._until = None


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request. Raises ``HTTPException`` for more bytes than ``most``, or where they come too slowly."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise HTTPException(413, f"expected at most {most:,} bytes")
                parts.append(part)
    except TimeoutError as error:
        raise HTTPException(408, "the request was not sent in time") from error
    return b"".join(parts)
