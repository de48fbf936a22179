"""The studio as an ASGI application: the page's files, the operations, and the stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from pixelsmith.studio.broadcast import Broadcast
from pixelsmith.studio.jobs import Job
from pixelsmith.studio.openapi import EVENTS, description
from pixelsmith.studio.operations import OPERATIONS, Asked, Operation, Studio, studio_of
from pixelsmith.web.guard import Guard, read_body
from pixelsmith.web.responses import NO_STORE, http_error, page_files, page_routes, respond


def application(folder: Path, address: str, token: str) -> ASGIApp:
    """The studio of the library in ``folder``, for a server that listens on ``address``. Raises ``InputError``."""
    page, broadcast = page_files("pixelsmith.studio"), Broadcast()

    def tell(job: Job) -> None:
        broadcast.tell(job.id, job.to_dict())

    studio = studio_of(folder, tell)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        broadcast.open()
        yield
        await run_in_threadpool(studio.queue.close)

    routes = page_routes(page)
    routes += [Route(one.path, _endpoint(studio, one), methods=[one.method]) for one in OPERATIONS]
    routes.append(Route("/api/openapi.json", lambda request: JSONResponse(description(OPERATIONS))))
    routes.append(Route(EVENTS, partial(_events, broadcast)))
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error})
    return Guard(app, address, token, frozenset(page))


async def _events(broadcast: Broadcast, request: Request) -> Response:
    if broadcast.full:
        raise HTTPException(503, "too many open event streams; close some pages")
    return StreamingResponse(broadcast.stream(), media_type="text/event-stream", headers=NO_STORE)


def _endpoint(studio: Studio, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        body = await read_body(request, operation.most) if operation.method in ("POST", "PUT") else b""
        asked = Asked(request.path_params, dict(request.query_params), body)
        return await respond(partial(operation.call, studio, asked))

    return endpoint
