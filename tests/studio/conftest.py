from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelsmith.studio import application
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import serving


@pytest.fixture
def any_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder for the page, which need not have been built for these tests."""
    monkeypatch.setattr(application, "page_files", lambda package: {"/": (b"the page", "text/html")})


@pytest.fixture
def server(any_page: None, tmp_path: Path) -> Iterator[StudioServer]:
    with serving(tmp_path / "library") as found:
        yield found


@pytest.fixture
def client(server: StudioServer) -> StudioClient:
    return StudioClient(server.url)
