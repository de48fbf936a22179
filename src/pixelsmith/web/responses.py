"""Responses of both applications: the files of a page, and errors as one line of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyvips
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pixelsmith.errors import InputError, MissingPartError, PixelsmithError, reason_of
from pixelsmith.system.terminal import say

OPEN_SEADRAGON = "openseadragon.min.js"
NO_STORE = {"Cache-Control": "no-store"}
CACHED_FOR_AN_HOUR = {"Cache-Control": "max-age=3600"}
"""For a tile: its URL has its version, so it never changes."""
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


def page_files(package: str) -> dict[str, tuple[bytes, str]]:
    """Content and media type of a package's page by path, with OpenSeadragon, which is in the viewer's folder.

    Raises ``MissingPartError`` where OpenSeadragon was not fetched for this install.
    """
    shared = files("pixelsmith.viewer") / "page" / OPEN_SEADRAGON
    if not shared.is_file():
        raise MissingPartError("the page is not in this install; build it with 'make viewer' (needs npm)")
    own = [file for file in (files(package) / "page").iterdir() if Path(file.name).suffix in _MEDIA_TYPES]
    found = {f"/{file.name}": (file.read_bytes(), _MEDIA_TYPES[Path(file.name).suffix]) for file in [*own, shared]}
    return found | {"/": found["/index.html"]}


def page_routes(page: Mapping[str, tuple[bytes, str]]) -> list[Route]:
    """A route for each file of a page."""
    return [Route(path, partial(_file, content, kind)) for path, (content, kind) in page.items()]


async def _file(content: bytes, kind: str, request: Request) -> Response:
    return Response(content, media_type=kind, headers=NO_STORE)


def attachment(name: str) -> dict[str, str]:
    """Headers that let a browser save a response under this name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


async def respond(work: Callable[[], Any]) -> Response:
    """Do ``work`` in a thread and return its response, its values as JSON, or its error as one line of JSON."""
    try:
        found = await run_in_threadpool(work)
    except LookupError:
        return _error(404, "there is nothing by this name")
    except InputError as error:
        return _error(400, str(error))
    except (PixelsmithError, OSError, pyvips.Error) as error:
        return _error(500, str(error))
    except Exception as error:
        say(f"pixelsmith: a request failed: {reason_of(error)}", error=True)
        return _error(500, "the server failed; its terminal says why")
    return found if isinstance(found, Response) else JSONResponse(found, headers=NO_STORE)


async def http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses (no such path, another method), and bodies that are refused."""
    status, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return _error(status, detail)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
