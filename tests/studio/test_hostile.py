"""Requests from other sites, to paths outside the library, and from clients that stall: all are refused."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pixelsmith import MissingPartError, RequestError
from pixelsmith.studio import application, broadcast, operations
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.form import Form
from pixelsmith.studio.library import Library
from pixelsmith.studio.openapi import EVENTS, description
from pixelsmith.studio.operations import OPERATIONS
from pixelsmith.studio.serving import StudioServer
from pixelsmith.web import guard, listening, responses
from tests.studio.serving import eventually


def asked(server: StudioServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, named)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def places(path: str) -> str:
    """A route with a value for each of its parameters."""
    return re.sub(r"{\w+}", "x", path)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_route_refuses_requests_of_other_sites(server: StudioServer, operation: operations.Operation) -> None:
    path, token = places(operation.path), f"?token={server.token}"
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert asked(server, operation.method, path + token, b"", **headers)[0] == 403
    for wrong in ("", "?token=", "?token=%FF", f"?token={server.token}x", f"?x={server.token}"):
        status, content, headers_of = asked(server, operation.method, path + wrong)
        assert status == (401 if operation.method != "GET" else 404 if "{" in operation.path else 200), content
        assert headers_of["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers_of["Content-Security-Policy"]
        assert headers_of["Referrer-Policy"] == "no-referrer"
    own = f"http://127.0.0.1:{server.port}"
    assert asked(server, operation.method, path + token, Origin=own)[0] not in (401, 403)


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc", "linked", "A", ".token", "a" * 200, "%00", "x%2Fy", "%ff%fe"]
)
def test_no_path_leads_out_of_the_library(server: StudioServer, tmp_path: Path, name: str) -> None:
    elsewhere = Library(tmp_path / "elsewhere").create(Form("mine"))
    (tmp_path / "library" / "linked").symlink_to(elsewhere.folder)
    token = f"?token={server.token}"
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/looks"), ("GET", "/jobs/0001-grow/picture.tif")):
        assert asked(server, method, f"/api/projects/{name}{path}{token}")[0] in (400, 404, 405)
    assert elsewhere.folder.is_dir()


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/..", "/jobs/0001-grow", "/jobs/%2e%2e%2f0001-grow", "/jobs/0001-grow/picture.tif", "/looks/given/small",
        "/looks/0001-grow:0/small", "/looks/..%2f/small", "/looks/0001-grow:x/small", "/looks/given/tile/0/0/-1",
        "/looks/given/tile/99999999999/0/0", "/looks/given/region", "/looks/given/region?left=a&top=0&right=1&bottom=1",
        "/given/../project.json", "/project.json", "/jobs/0001-place/place/0.50",
    ],
)  # fmt: skip
def test_missing_things_are_not_found(server: StudioServer, client: StudioClient, path: str) -> None:
    name = client.create({"prompt": "a map"})["name"]
    status, content, _ = asked(server, "GET", f"/api/projects/{name}{path}")
    assert status in (404, 405)
    assert b"Traceback" not in content


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 50_000, b'{"prompt": 1}', b'{"form": 1}', b"\xff"])
def test_invalid_bodies_are_refused(
    server: StudioServer, client: StudioClient, body: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    name = client.create({"prompt": "a map"})["name"]
    token = f"?token={server.token}"
    for method, path in (("POST", "/api/projects"), ("PUT", f"/api/projects/{name}"), ("POST", "/api/plan")):
        status, content, _ = asked(server, method, path + token, body)
        assert (status, list(json.loads(content))) == (400, ["error"])
    assert asked(server, "POST", f"/api/projects/{name}/jobs{token}", body)[0] == 400
    assert asked(server, "PUT", f"/api/projects/{name}/given{token}", body)[0] == 400
    assert capfd.readouterr() == ("", "")


def test_the_size_of_bodies_is_limited(
    server: StudioServer, client: StudioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = client.create({"prompt": "a map"})["name"]
    token = f"?token={server.token}"
    assert asked(server, "POST", f"/api/projects{token}", b" " * (operations.MAX_JSON + 1))[0] == 413
    monkeypatch.setattr(operations, "MAX_UPLOAD", 5000)
    assert asked(server, "PUT", f"/api/projects/{name}/given{token}", b" " * 5001)[0] == 413
    assert asked(server, "PUT", f"/api/projects/{name}/given{token}", b" " * 5000)[0] == 400


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\nConnection: close\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: me@localhost\r\nConnection: close\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n", b"200"),
    ],
)
def test_malformed_requests_are_answered(server: StudioServer, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request_bytes)
        assert b"".join(iter(lambda: connection.recv(65536), b"")).split()[1] == status


def test_a_stalled_client_is_disconnected(server: StudioServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "TIMEOUT", 0.3)
    begun = f"POST /api/plan?token={server.token} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n".encode()
    for beginning in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: ", begun):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(beginning)
            answer = connection.recv(1000)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        until = time.monotonic() + 20
        with suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\nA: ")
            while time.monotonic() < until:
                connection.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() < until


def test_other_machines_need_the_token_for_everything_but_the_page(any_page: None, tmp_path: Path) -> None:
    library = tmp_path / "library"
    app = application.application(library, "192.168.1.2", "secret")
    assert isinstance(app, guard.Guard)
    for path, query, refused in (
        ("/", b"", False), ("/api/projects", b"", True), ("/api/projects", b"token=secret", False),
        ("/api/events", b"token=Secret", True),
    ):  # fmt: skip
        scope = {"type": "http", "method": "GET", "path": path, "query_string": query}
        assert (app.refusal(scope | {"headers": [(b"host", b"studio.local:80")]}) is not None) == refused


def test_each_printed_url_has_the_token(any_page: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_address_in_network", lambda address: "192.168.1.7")
    with StudioServer(tmp_path / "library", "0.0.0.0") as server:  # noqa: S104
        end = f":{server.port}/?token={server.token}"
        assert server.whereabouts == f"http://127.0.0.1{end} and for other machines at http://192.168.1.7{end}"
        assert (tmp_path / "library" / ".address").read_text() == f"http://127.0.0.1:{server.port}/"


def test_the_openapi_description_has_every_route(server: StudioServer) -> None:
    found = json.loads(asked(server, "GET", "/api/openapi.json")[1])
    assert found == json.loads(json.dumps(description(OPERATIONS)))
    routes = {(path, method.upper()) for path, methods in found["paths"].items() for method in methods}
    assert routes == {(one.path, one.method) for one in OPERATIONS} | {(EVENTS, "GET")}
    form = found["paths"]["/api/projects"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(form["properties"]) == set(Form("x").to_dict())


def test_events_reach_all_listeners_and_are_not_kept_for_disconnected_ones(
    server: StudioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "MAX_LISTENERS", 3)
    monkeypatch.setattr(broadcast, "BEAT_SECONDS", 0.1)

    def listening() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return connection

    open_ones = [listening() for _ in range(3)]
    assert all(connection.recv(1000).startswith(b"HTTP/1.1 200") for connection in open_ones)
    assert asked(server, "GET", EVENTS)[0] == 503
    for connection in open_ones:
        connection.close()

    def free() -> bool:
        with listening() as connection:
            return connection.recv(1000).startswith(b"HTTP/1.1 200")

    eventually(free)


def test_settings_that_cannot_be_served_are_refused(
    any_page: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: StudioServer
) -> None:
    (tmp_path / "file").write_text("")
    for folder, host, port in (("file", "127.0.0.1", 0), ("a", "127.0.0.1", server.port), ("b", "no.such.invalid", 0)):
        with pytest.raises(RequestError):
            StudioServer(tmp_path / folder, host, port)
    with pytest.raises(RequestError, match="has no name"):
        StudioServer(tmp_path / "c", "")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".token").write_text("short")
    with pytest.raises(RequestError, match="no valid token"):
        StudioServer(tmp_path / "d")
    assert (tmp_path / "library" / ".token").stat().st_mode & 0o077 == 0
    monkeypatch.undo()
    monkeypatch.setattr(responses, "OPEN_SEADRAGON", "not-built.js")
    with pytest.raises(MissingPartError, match="make viewer"):
        StudioServer(tmp_path / "e")
