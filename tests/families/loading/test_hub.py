"""Downloads from a hub, which is a server on this machine, and the errors if they fail."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pixelsmith import ModelError
from pixelsmith.families.loading import find
from pixelsmith.families.loading.find import find_addition, find_model, find_part
from pixelsmith.families.loading.hub import HUB_ID, pinned, unpinned
from tests.commands import Commands, commands

COMMIT = "c" * 40
REFUSALS = {"gone": (404, "RepoNotFound"), "closed": (403, "GatedRepo"), "broken": (500, "")}


class Hub(SimpleHTTPRequestHandler):
    """As much of a hub as its library asks for: repositories ``somebody/NAME`` are folders NAME."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        pieces = self.path.partition("?")[0].strip("/").split("/")
        name = (pieces[3:] or [""])[0] if pieces[0] == "api" else pieces[1]
        folder = Path(self.directory) / name
        if name in REFUSALS:
            status, code = REFUSALS[name]
            self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": "no"})
        elif pieces[0] != "api":
            self._answer(200, (folder / "/".join(pieces[4:])).read_bytes(), {"X-Repo-Commit": COMMIT})
        elif not (folder.is_dir() and name):
            self._answer(404, b"", {})
        elif pieces[4] == "tree":
            paths = [path for path in folder.rglob("*") if path.is_file()]
            entries = [
                {"type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size,
                 "oid": hashlib.sha256(path.read_bytes()).hexdigest()}
                for path in paths
            ]  # fmt: skip
            self._answer(200, json.dumps(entries).encode(), {})
        elif pieces[-1] not in ("main", COMMIT):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            files = [{"rfilename": path.relative_to(folder).as_posix()} for path in folder.rglob("*") if path.is_file()]
            info = {"id": f"somebody/{name}", "sha": COMMIT, "siblings": files, "tags": [], "downloads": 0, "likes": 0}
            self._answer(200, json.dumps(info).encode(), {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        extra = {"Content-Length": str(len(body)), "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        for name, value in (headers | extra).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@dataclass(frozen=True)
class Place:
    """A hub, whose repositories are folders in ``served``, and the commands that fetch from it into ``cache``."""

    served: Path
    cache: Path
    commands: Commands


def settings(endpoint: str, cache: Path, **more: str) -> dict[str, str]:
    """Environment variables that the hub's library reads when it is imported."""
    usual = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    return usual | more


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    served, cache = (tmp_path_factory.mktemp("hub") / name for name in ("served", "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    with commands(settings(f"http://127.0.0.1:{server.server_port}", cache)) as found:
        yield Place(served, cache, found)
    server.shutdown()
    server.server_close()


@pytest.fixture
def hub(started: Place) -> Place:
    """With no repositories, and nothing fetched yet."""
    for folder in (started.served, started.cache):
        shutil.rmtree(folder, ignore_errors=True)
    started.served.mkdir()
    return started


def test_a_missing_model_is_downloaded_with_a_progress_bar_unless_quiet(
    hub: Place, tmp_path: Path, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, hub.served / "tiny")
    shutil.copytree(tiny_model / "vae", hub.served / "vae")
    file = "somebody/vae/diffusion_pytorch_model.safetensors"
    command = ["generate", "a sea", "--size", "64", "--steps", "1", "--model", "somebody/tiny", "--vae", file]
    code, said = hub.commands.run(tmp_path, *command, "--output", "loud.png", TQDM_POSITION="-1")
    assert (code, "Fetching" in said, "Download complete" in said) == (0, True, True)
    snapshot = hub.cache / "models--somebody--tiny" / "snapshots" / COMMIT
    assert (snapshot / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert not (snapshot / "vae" / "diffusion_pytorch_model.safetensors").exists(), "another one was given"
    shutil.rmtree(hub.cache)
    assert hub.commands.run(tmp_path, *command, "--output", "quiet.png", "--quiet", TQDM_POSITION="-1") == (0, "")
    assert (tmp_path / "quiet.png").read_bytes()


def test_a_new_model_with_a_replaced_autoencoder_can_be_calibrated(
    hub: Place, tmp_path: Path, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, hub.served / "tiny")
    command = ["plan", "a sea", "--size", "64", "--model", "somebody/tiny", "--vae", str(tiny_model / "vae")]
    assert hub.commands.run(tmp_path, *command, "--calibrate")[0] == 0


def test_planning_a_single_file_with_a_given_configuration_downloads_no_weights(
    hub: Place, tmp_path: Path, tiny_model: Path
) -> None:
    (hub.served / "tiny").mkdir()
    (hub.served / "tiny" / "model.safetensors").write_bytes(b"nonsense")
    command = ["plan", "a sea", "--size", "64", "--model", "somebody/tiny/model.safetensors"]
    assert hub.commands.run(tmp_path, *command, "--model-config", str(tiny_model))[0] == 0
    assert not list(hub.cache.rglob("*.safetensors"))


@pytest.mark.parametrize("option", ["--vae", "--network", "--lora", "--textual-inversion"])
def test_a_missing_added_part_is_reported_before_the_model_is_downloaded(
    hub: Place, tmp_path: Path, tiny_model: Path, option: str
) -> None:
    shutil.copytree(tiny_model, hub.served / "tiny")
    command = ["generate", "a sea", "--size", "64", "--model", "somebody/tiny", "--output", "sea.png", "--quiet"]
    code, said = hub.commands.run(tmp_path, *command, option, "./missing.safetensors")
    assert (code, len(said.splitlines()), "missing.safetensors" in said) == (2, 1, True)
    assert not list(hub.cache.rglob("*.safetensors"))


def test_a_repository_with_only_a_network_is_refused_before_it_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "fetched", lambda *given: pytest.fail("it was fetched"))
    with pytest.raises(ModelError, match="--network"):
        find_model("somebody/tiny/model.gguf")


@pytest.mark.parametrize("name", ["./nothere.safetensors", "../models/x.safetensors", "./vae", "/foo/x.safetensors"])
def test_a_mistyped_path_is_reported_as_missing(name: str) -> None:
    assert not HUB_ID.fullmatch(name)
    for look in (find_part, find_addition):
        with pytest.raises(ModelError, match="there is no such file or folder here"):
            look(name, allow_pickle=False)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("somebody/gone", "the hub has no such repository (or it is private"),
        ("somebody/closed", "accept its terms"),
        ("somebody/broken", "somebody/broken"),
        ("somebody/plain@other", "no such revision"),
        ("somebody/plain", "somebody/plain/FILE.safetensors"),
        ("somebody/plain/gone.safetensors", "there is no such file in somebody/plain"),
    ],
)
def test_the_error_for_a_failed_download_is_one_line_with_the_reason(
    hub: Place, tmp_path: Path, model: str, message: str
) -> None:
    (hub.served / "plain").mkdir()
    (hub.served / "plain" / "README.md").write_text("nothing")
    code, said = hub.commands.run(tmp_path, "models", "inspect", model)
    assert code == 2
    # A file that is to be fetched comes with a bar.
    (line,) = (line for line in said.splitlines() if line and not line.startswith("Fetching"))
    assert message in line


@pytest.mark.parametrize("offline", ["1", "0"])
def test_the_error_without_a_network_connection_says_so(tmp_path: Path, offline: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "pixelsmith", "models", "inspect", "somebody/tiny"],
        env=os.environ | settings("http://127.0.0.1:9", tmp_path / "cache", HF_HUB_OFFLINE=offline),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (process.returncode, len(process.stderr.splitlines())) == (2, 1)
    assert "the hub cannot be reached (or HF_HUB_OFFLINE is set)" in process.stderr


@pytest.mark.parametrize(
    ("name", "repository", "revision", "file"),
    [
        ("a/b", "a/b", None, None),
        ("a/b@v1", "a/b", "v1", None),
        ("a/b/c.safetensors", "a/b", None, "c.safetensors"),
        ("a/b@v1/c/d.Q4_0.gguf", "a/b", "v1", "c/d.Q4_0.gguf"),
    ],
)
def test_a_hub_id_consists_of_a_repository_a_revision_and_a_file(
    name: str, repository: str, revision: str | None, file: str | None
) -> None:
    named = HUB_ID.fullmatch(name)
    assert named is not None
    assert (named["id"], named["revision"], named["file"]) == (repository, revision, file)
    place = Path("models--a--b/snapshots") / COMMIT / (file or "")
    assert pinned(name, place) == f"a/b@{COMMIT}" + (f"/{file}" if file else "")
    assert unpinned(name) == unpinned(pinned(name, place)) == "a/b" + (f"/{file}" if file else "")


def test_a_local_path_has_no_revision() -> None:
    assert unpinned("/home/me@here/model") == "/home/me@here/model"
