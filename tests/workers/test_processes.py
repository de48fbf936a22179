"""Calls to a process that ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from pixelsmith.engine.crew import LostError
from pixelsmith.workers.processes import ProcessLink

LENGTH = rb"\000\000\000\000\000\000\000\011"
"""Nine bytes are announced."""


@pytest.mark.parametrize(
    "sent", [b"", LENGTH[:-8], LENGTH, LENGTH + b"half"], ids=["none", "header", "nothing", "half"]
)
def test_a_process_killed_during_an_answer_is_lost_at_once(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker"
    worker.write_text(f"#!/bin/sh\nread -r _\nprintf '{sent.decode()}'\nkill -KILL $$\n")
    worker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(worker))
    link = ProcessLink("cpu", "cpu")
    answer = link.call("about", "a line ends here\n")
    with pytest.raises(LostError, match=signal.SIGKILL.name):
        answer.result(timeout=30)
    with pytest.raises(LostError):
        link.call("about").result(timeout=30)
    link.wait()
