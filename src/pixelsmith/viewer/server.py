"""Serve the page and the tiles of what is shown, and nothing else, on this machine."""

from __future__ import annotations

import json
import secrets
import socket
import sys
import time
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import pyvips

from pixelsmith.errors import InputError, MissingPartError, RequestError, reason_of
from pixelsmith.pixels.zoomable import Box, Zoomable
from pixelsmith.run.shown import Shown, show
from pixelsmith.system.terminal import say
from pixelsmith.viewer.meant import HEAD_SECONDS, HEADERS, asked_host, is_meant
from pixelsmith.viewer.tiles import region_of, tile_of

_NEEDED = "openseadragon.min.js"
"""What ``make viewer`` puts there; the rest of the page comes with the source."""
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/viewer.css": ("viewer.css", "text/css; charset=utf-8"),
    "/viewer.js": ("viewer.js", "text/javascript; charset=utf-8"),
    "/openseadragon.min.js": (_NEEDED, "text/javascript; charset=utf-8"),
}
_CACHED_TILES = 2000


class PictureServer(ThreadingHTTPServer):
    """Shows ``path``, a picture file or a run directory, at ``url``; ``before`` is a file to compare it with.

    ``port`` 0 takes a free one.

    Raises ``PictureError`` or ``RunError`` where there is nothing to show, ``MissingPartError`` where the page was not
    built into this install, and ``RequestError`` where the address cannot be used.
    """

    daemon_threads = True

    def __init__(self, path: Path, host: str = "127.0.0.1", port: int = 0, before: Path | None = None) -> None:
        self._path, self._before = path, before
        self._shown = show(path, before)
        page = files("pixelsmith.viewer") / "page"
        if not (page / _NEEDED).is_file():
            raise MissingPartError("the viewer's page is not in this install; build it with 'make viewer' (needs npm)")
        self.page = {url: ((page / name).read_bytes(), kind) for url, (name, kind) in _PAGE.items()}
        # Another server at this address, for another picture, must not be answered from the browser's cache.
        self.token = secrets.token_hex(4)
        self.tile = lru_cache(maxsize=_CACHED_TILES)(self._tile)
        try:
            if not host:
                raise OSError("it has no name")
            self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            raise RequestError(f"address: {host}:{port} cannot be used ({error})") from error

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line; nothing of a browser that hung up, or that stopped to read."""
        error = sys.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError | TimeoutError):
            say(f"pixelsmith: an answer failed: {reason_of(error)}", error=True)

    @property
    def url(self) -> str:
        name = str(self.server_address[0])
        return f"http://{f'[{name}]' if ':' in name else name}:{self.server_address[1]}/"

    def shown(self) -> Shown:
        """What there is now; a run that goes on may have more stages than before."""
        if self._shown.growing:
            gone = self._shown.output if not self._path.exists() else None
            # A run directory that was not asked for is removed when its picture is there.
            self._shown = show(gone or self._path, self._before)
        return self._shown

    def picture(self, number: int) -> Zoomable:
        """A picture by its place in the list. Raises ``LookupError``."""
        pictures = list(self._shown.pictures.values())
        if not 0 <= number < len(pictures):
            raise LookupError(number)
        return pictures[number]

    def _tile(self, number: int, level: int, column: int, row: int, version: str) -> bytes:
        """A JPEG of a tile; level 0 is the full picture, each next one half of it. Raises ``LookupError``."""
        return tile_of(self.picture(number), level, column, row)

    def region(self, number: int, box: Box) -> bytes:
        """A PNG of what the user sees, in all its detail as far as ``_SAVED_SIDE`` goes. Raises ``LookupError``."""
        return region_of(self.picture(number), box)


class _Timely(RawIOBase):
    """What a socket receives until a time; after it ``TimeoutError``, however much comes how slowly."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self.until = connection, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        before = self._connection.gettimeout()
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(before)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Of a first line that is none: of 0.9, the base class's, answers have neither status nor headers.
    default_request_version = "HTTP/1.0"
    timeout = HEAD_SECONDS
    server: PictureServer

    def setup(self) -> None:
        super().setup()
        self._received = _Timely(self.connection)
        self.rfile = BufferedReader(self._received)

    def handle_one_request(self) -> None:
        self._received.until = time.monotonic() + self.timeout
        super().handle_one_request()

    def do_GET(self) -> None:
        host = asked_host(self.headers.get_all("Host", []))
        url = _split(self.path)
        if host is None or url is None:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        if not is_meant(str(self.server.server_address[0]), host):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        try:
            content, kind = self._found(url.path, {name: value[0] for name, value in parse_qs(url.query).items()})
        except (LookupError, ValueError):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        except (OSError, InputError, pyvips.Error) as error:
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
            return
        # A browser that has moved on hangs up on the tiles that it no longer needs.
        with suppress(ConnectionError):
            self._answer(url.path, content, kind)

    do_HEAD = do_GET  # noqa: N815 (the name is the base class's)

    def _answer(self, path: str, content: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        # A tile's address carries its version, so it never changes.
        lasting = path.startswith("/tile/")
        self.send_header("Cache-Control", "max-age=3600" if lasting else "no-store")
        if path == "/region.png":
            self.send_header("Content-Disposition", 'attachment; filename="region.png"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Also of errors, which have their own text."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        """Say nothing of each tile."""

    def _found(self, path: str, query: dict[str, str]) -> tuple[bytes, str]:
        if path in self.server.page:
            return self.server.page[path]
        if path == "/shown.json":
            return json.dumps(self.server.shown().to_dict() | {"token": self.server.token}).encode(), "application/json"
        if path == "/region.png":
            left, top, right, bottom = (float(query[name]) for name in ("left", "top", "right", "bottom"))
            return self.server.region(int(query["picture"]), (left, top, right, bottom)), "image/png"
        start, tile, number, level, column, row = path.split("/")
        if (start, tile) != ("", "tile"):
            raise LookupError(path)
        name = (int(number), int(level), int(column), int(row), query.get("version", ""))
        return self.server.tile(*name), "image/jpeg"


def _split(address: str) -> SplitResult | None:
    """The parts of an address; ``None`` where it is none."""
    try:
        return urlsplit(address)
    except ValueError:
        return None
