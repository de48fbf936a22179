"""Unusual requests: each is answered without a traceback, and connections are closed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pixelsmith import RequestError, Size
from pixelsmith.canvas import Array
from pixelsmith.pixels.files import write_picture
from pixelsmith.viewer import PictureServer
from pixelsmith.web import guard
from tests.viewer.test_server import SETTINGS, any_page, gradient, serving  # noqa: F401 (one is used by itself)


@pytest.fixture
def found(tmp_path: Path) -> Iterator[PictureServer]:
    write_picture(Array(gradient(Size(64, 48))), tmp_path / "x.png", SETTINGS)
    with serving(tmp_path / "x.png") as running:
        yield running


def asked(found: PictureServer, request: bytes) -> bytes:
    """The complete response to these bytes, followed by a request that closes the connection."""
    request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", found.port), timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


LOCAL = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost:port\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: me@localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: \xff\xfe]\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[/ HTTP/1.1\r\n" + LOCAL + b"\r\n", 404),
        (b"GET /\r\n\r\n", 400),
        (b"GET /shown.json HTTP/one\r\n" + LOCAL + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + LOCAL + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"DELETE /shown.json HTTP/1.1\r\n" + LOCAL + b"\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /shown.json HTTP/1.1\r\n" + LOCAL + b"Origin: http://evil.example\r\n\r\n", 403),
        (b"GET /shown.json HTTP/1.1\r\n" + LOCAL + b"Origin: null\r\n\r\n", 403),
        (b"GET /tile/0/0/" + b"9" * 5000 + b"/0 HTTP/1.1\r\n" + LOCAL + b"\r\n", 404),
        (b"GET /region.png?left=nan&top=0&right=1&bottom=1&picture=0 HTTP/1.1\r\n" + LOCAL + b"\r\n", 404),
        (b"GET /shown.json HTTP/1.1\r\nHost: LOCALHOST:80\r\n\r\n", 200),
        (b"GET /shown.json HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200),
    ],
)
def test_every_request_is_answered_in_order(
    found: PictureServer, request_bytes: bytes, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = asked(found, request_bytes)
    assert answer.split(b"\r\n")[0].split()[1] == str(status).encode(), answer[:300]
    for header in (b"frame-ancestors 'none'", b"cross-origin-resource-policy: same-origin", b"nosniff"):
        assert answer.lower().count(header) == 1
    assert capfd.readouterr() == ("", "")


def test_head_is_answered_like_get_without_content(found: PictureServer) -> None:
    head, get = (
        asked(found, f"{method} /shown.json HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) for method in ("HEAD", "GET")
    )
    headers, content = get.split(b"\r\n\r\n", 1)
    without_date = [line for line in headers.split(b"\r\n") if not line.startswith(b"date")]
    assert [line for line in head.split(b"\r\n") if line and not line.startswith(b"date")] == without_date
    assert head.endswith(b"\r\n\r\n")
    assert json.loads(content)["token"] == found.token


def test_unexpected_data_after_a_request_closes_the_connection(
    found: PictureServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", found.port), timeout=30) as connection:
        connection.sendall(b"GET /shown.json HTTP/1.1\r\n" + LOCAL + b"Transfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"no length\r\n")
        with suppress(ConnectionError):
            while connection.recv(65536):
                pass
    assert capfd.readouterr() == ("", "")


def test_an_idle_connection_is_closed(
    found: PictureServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert 1 <= guard.TIMEOUT <= 300
    monkeypatch.setattr(guard, "TIMEOUT", 0.05)
    for beginning in (b"", b"GET / HT", b"GET /shown.json HTTP/1.1\r\nHost: "):
        with socket.create_connection(("127.0.0.1", found.port), timeout=30) as connection:
            connection.sendall(beginning)
            assert connection.recv(100) == b""
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6_addresses_are_served(tmp_path: Path) -> None:
    write_picture(Array(torch.zeros(3, 8, 8, dtype=torch.uint8)), tmp_path / "x.png", SETTINGS)
    with PictureServer(tmp_path / "x.png", "::1") as found:
        assert found.url == f"http://[::1]:{found.port}/"
        assert found.address == "::1"
    for host in ("", "no.such.host.invalid", "a" * 70, "..", "\ud800"):
        with pytest.raises(RequestError, match="address: "):
            PictureServer(tmp_path / "x.png", host)


def test_unexpected_exceptions_are_one_line(
    found: PictureServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise TypeError("no \x1b[31m picture\n at all")

    monkeypatch.setattr(found, "shown", fail)
    asked(found, b"GET /shown.json HTTP/1.1\r\n" + LOCAL + b"\r\n")
    assert capfd.readouterr() == ("", "pixelsmith: a request failed: TypeError: no \\x1b[31m picture at all\n")


def test_a_slow_request_is_disconnected(
    found: PictureServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each byte of its headers arrives long before an idle connection would be closed."""
    monkeypatch.setattr(guard, "TIMEOUT", 0.5)
    with socket.create_connection(("127.0.0.1", found.port), timeout=30) as connection:
        connection.sendall(b"GET /shown.json HTTP/1.1\r\nA: ")
        began = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < began + 20 and not _is_closed(connection):
                connection.sendall(b"a")
                time.sleep(0.05)
    assert time.monotonic() < began + 20
    assert capfd.readouterr() == ("", "")


def _is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(100) == b""
    except BlockingIOError:
        return False
    finally:
        connection.setblocking(True)


def test_each_request_of_a_connection_has_its_own_time_limit(
    found: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "TIMEOUT", 2.0)
    with socket.create_connection(("127.0.0.1", found.port), timeout=30) as connection:
        for _ in range(4):
            connection.sendall(b"HEAD /shown.json HTTP/1.1\r\n" + LOCAL + b"\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.6)
