"""The server is killed during a job: the next server finishes it with the same pixels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelsmith import generate
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.form import Form
from pixelsmith.studio.library import Library
from tests.studio.serving import eventually, finished, serving
from tests.studio.test_jobs import pixels

BEGIN = (
    "import sys; from pixelsmith.studio import application; from pixelsmith.cli.program import main\n"
    "application.page_files = lambda package: {'/': (b'', 'text/html')}; sys.argv[0] = 'pixelsmith'; main()"
)
"""The command without its page, which need not have been built."""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_job_survives_a_killed_server(any_page: None, tiny_model: Path, tmp_path: Path) -> None:
    form = {"prompt": "a map", "model": str(tiny_model), "size": "500x400", "seed": 3}
    command = [sys.executable, "-c", BEGIN, "studio", "library", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("library is at http://127.0.0.1:")
        client = StudioClient(line.split()[3])
        name = client.create(form)["name"]
        job = client.start(name, "grow")
        other = client.start(name, "grow", form | {"seed": 4, "size": "100x100"})
        eventually(lambda: client.job(job["id"])["share"] > 0.2)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert Library(tmp_path / "library").project(name).job("0001-grow").state == "running"
    with serving(tmp_path / "library") as server:
        client = StudioClient(server.url)
        assert [client.job(one["id"])["state"] for one in (job, other)] == ["paused", "paused"]
        client.resume(job["id"])
        state = finished(client, job)
        assert state["state"] == "done", state["error"]
        client.save(job["id"], tmp_path / "map.tif")
    expected = generate(Form.from_dict(form).request(), tmp_path / "expected.tif").path
    assert expected is not None
    assert np.array_equal(pixels(tmp_path / "map.tif"), pixels(expected))
