"""Serve the page and the tiles of one picture or run directory, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pixelsmith.pixels.zoomable import Zoomable
from pixelsmith.run.shown import Shown, show
from pixelsmith.web.guard import Guard
from pixelsmith.web.listening import WebServer
from pixelsmith.web.responses import CACHED_FOR_AN_HOUR, attachment, http_error, page_files, page_routes, respond
from pixelsmith.web.tiles import box_of, number_of, region_of, tile_of

_CACHED_TILES = 2000


class PictureServer(WebServer):
    """Shows ``path``, a picture file or a run directory, at ``url``; ``before`` is a file to compare it with.

    ``port`` 0 takes a free one.

    Raises ``PictureError`` or ``RunError`` where there is nothing to show, ``MissingPartError`` where the page was not
    built into this install, and ``RequestError`` where the address cannot be used.
    """

    def __init__(self, path: Path, host: str = "127.0.0.1", port: int = 0, before: Path | None = None) -> None:
        self._path, self._before = path, before
        self._shown = show(path, before)
        # Part of each tile's URL: a later server at this address may show another picture, and browsers cache tiles.
        self.token = secrets.token_hex(4)
        self._tile = lru_cache(maxsize=_CACHED_TILES)(self._encoded_tile)
        super().__init__(self._application, host, port)

    def shown(self) -> Shown:
        """What there is now; a run that goes on may have more stages than before."""
        if self._shown.growing:
            gone = self._shown.output if not self._path.exists() else None
            # A run directory that was not asked for is removed when its picture is there.
            self._shown = show(gone or self._path, self._before)
        return self._shown

    def _application(self, address: str) -> ASGIApp:
        routes = page_routes(page_files("pixelsmith.viewer"))
        for path, work in (
            ("/shown.json", self._list),
            ("/region.png", self._region),
            ("/tile/{picture}/{level}/{column}/{row}", self._tile_of),
        ):
            routes.append(Route(path, _endpoint(work)))
        return Guard(Starlette(routes=routes, exception_handlers={HTTPException: http_error}), address)

    def _list(self, request: Request) -> dict[str, Any]:
        return self.shown().to_dict() | {"token": self.token}

    def _region(self, request: Request) -> Response:
        box, query = box_of(request.query_params), request.query_params
        content = region_of(self._picture(number_of(query["picture"])), box)
        return Response(content, media_type="image/png", headers=attachment("region.png"))

    def _tile_of(self, request: Request) -> Response:
        number = [number_of(request.path_params[name]) for name in ("picture", "level", "column", "row")]
        content = self._tile(*number, request.query_params.get("version", ""))
        return Response(content, media_type="image/jpeg", headers=CACHED_FOR_AN_HOUR)

    def _encoded_tile(self, number: int, level: int, column: int, row: int, version: str) -> bytes:
        return tile_of(self._picture(number), level, column, row)

    def _picture(self, number: int) -> Zoomable:
        """A picture by its place in the list. Raises ``LookupError``."""
        return list(self._shown.pictures.values())[number]


def _endpoint(work: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        return await respond(partial(work, request))

    return endpoint
