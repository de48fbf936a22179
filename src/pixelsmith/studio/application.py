"""The studio as an application for a web server: the page's files, the operations, and the stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path

import pyvips
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from pixelsmith.errors import InputError, MissingPartError, PixelsmithError, reason_of
from pixelsmith.studio.broadcast import Broadcast
from pixelsmith.studio.guard import Guard, body_of
from pixelsmith.studio.library import Job
from pixelsmith.studio.openapi import EVENTS, description
from pixelsmith.studio.operations import OPERATIONS, Asked, Operation, Studio, studio_of
from pixelsmith.system.terminal import say

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_OPEN_SEADRAGON = "openseadragon.min.js"


def page_files() -> dict[str, tuple[bytes, str]]:
    """The page by its addresses. Raises ``MissingPartError`` where OpenSeadragon was not fetched for this install."""
    viewer = files("pixelsmith.viewer") / "page" / _OPEN_SEADRAGON
    if not viewer.is_file():
        raise MissingPartError("the studio's page is not in this install; build it with 'make viewer' (needs npm)")
    own = [file for file in (files("pixelsmith.studio") / "page").iterdir() if Path(file.name).suffix in _KINDS]
    found = {f"/{file.name}": (file.read_bytes(), _KINDS[Path(file.name).suffix]) for file in [*own, viewer]}
    return found | {"/": found["/index.html"]}


def application(folder: Path, address: str, token: str) -> ASGIApp:
    """The studio of a library, for an address that it is served at. Raises ``InputError``."""
    page, broadcast = page_files(), Broadcast()

    def tell(job: Job) -> None:
        broadcast.tell(job.id, job.to_dict())

    studio = studio_of(folder, tell)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        broadcast.open()
        yield
        await run_in_threadpool(studio.queue.close)

    routes = [Route(path, partial(_page, content, kind)) for path, (content, kind) in page.items()]
    routes += [Route(one.path, _answering(studio, one), methods=[one.method]) for one in OPERATIONS]
    routes.append(Route("/api/openapi.json", lambda request: JSONResponse(description(OPERATIONS))))
    routes.append(Route(EVENTS, partial(_events, broadcast)))
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refused})
    return Guard(app, address, token, frozenset(page))


async def _page(content: bytes, kind: str, request: Request) -> Response:
    return Response(content, media_type=kind, headers={"Cache-Control": "no-store"})


async def _events(broadcast: Broadcast, request: Request) -> Response:
    if broadcast.full:
        raise HTTPException(503, "too many pages listen; close some")
    return StreamingResponse(broadcast.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _refused(request: Request, error: Exception) -> Response:
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return JSONResponse({"error": detail}, status)


def _answering(studio: Studio, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of an operation: it works in a thread, and what is wrong is an answer of one line."""

    async def answer(request: Request) -> Response:
        body = await body_of(request, operation.most) if operation.method in ("POST", "PUT") else b""
        asked = Asked(request.path_params, dict(request.query_params), body)
        try:
            found = await run_in_threadpool(operation.call, studio, asked)
        except LookupError:
            return JSONResponse({"error": "there is nothing by this name"}, 404)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        except (PixelsmithError, OSError, pyvips.Error) as error:
            return JSONResponse({"error": str(error)}, 500)
        except Exception as error:
            say(f"pixelsmith: an answer failed: {reason_of(error)}", error=True)
            return JSONResponse({"error": "the studio failed here; its terminal says why"}, 500)
        if isinstance(found, Response):
            return found
        return JSONResponse(found, headers={"Cache-Control": "no-store"})

    return answer
