"""A studio server for the duration of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.serving import StudioServer


@contextmanager
def serving(folder: Path) -> Iterator[StudioServer]:
    with StudioServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            eventually(lambda: server._server.started)
            yield server
        finally:
            server.shutdown()
            thread.join()


def eventually(holds: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def finished(client: StudioClient, job: dict[str, Any]) -> dict[str, Any]:
    """The final state of a job."""
    return list(client.events(job["id"]))[-1]
