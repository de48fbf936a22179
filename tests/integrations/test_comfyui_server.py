"""The example workflows in a ComfyUI that runs, with tiny models instead of checkpoints."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

CHECKOUT = os.environ.get("COMFYUI", "")
NODES = Path(__file__).parents[2] / "integrations" / "comfyui"
WORKFLOWS = sorted((NODES / "example_workflows").glob("*.json"))
SMALL = {"width": 160, "height": 112, "steps": 2}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PATIENCE = 300
"""Seconds."""
pytestmark = pytest.mark.skipif(not CHECKOUT, reason="COMFYUI names no checkout of ComfyUI")


@dataclass(frozen=True)
class Server:
    """One that runs on this machine; ``folder`` is its base directory."""

    folder: Path
    port: int

    def get(self, path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content.decode()

    def post(self, path: str, values: Any) -> Any:
        address, told = f"http://127.0.0.1:{self.port}{path}", {"Content-Type": "application/json"}
        with urlopen(Request(address, json.dumps(values).encode(), told)) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def queue(self, prompt: dict[str, Any]) -> str:
        return str(self.post("/prompt", {"prompt": prompt})["prompt_id"])

    def ended(self, prompt_id: str) -> Any:
        """What became of it."""
        return until(lambda: self.get(f"/history/{prompt_id}").get(prompt_id))


def until(found: Callable[[], Any]) -> Any:
    """The first answer that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.5)
    raise TimeoutError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("comfy")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models", "page"):
        (folder / name).mkdir()
    (folder / "page" / "index.html").write_text("")
    (folder / "custom_nodes" / "pixelsmith").symlink_to(NODES)
    (folder / "custom_nodes" / "tiny").symlink_to(Path(__file__).parent / "tiny_nodes")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (56, 80, 3), np.uint8)).save(folder / "input/example.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "main.py", "--cpu", "--port", str(port), "--listen", "127.0.0.1",
        "--base-directory", str(folder), "--front-end-root", str(folder / "page"),
        "--preview-method", "latent2rgb", "--disable-api-nodes",
        "--database-url", "sqlite:///:memory:",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log)
        made = Server(folder, port)

        def there() -> bool:
            assert process.poll() is None, (folder / "log").read_text()[-3000:]
            try:
                return bool(made.get("/system_stats"))
            except URLError:
                return False

        try:
            until(there)
            yield made
        finally:
            process.terminate()
            process.wait(30)


def test_the_server_loads_the_nodes_and_their_help_pages(server: Server) -> None:
    log = (server.folder / "log").read_text().splitlines()
    assert not [line for line in log if "FAILED" in line and "custom_nodes" in line]
    for page in (NODES / "web" / "docs").glob("*.md"):
        assert page.stem in server.get(f"/object_info/{page.stem}")
        assert server.get(f"/extensions/pixelsmith/docs/{page.name}") == page.read_text()
    assert {path.stem for path in (NODES / "web" / "docs").glob("*.md")} == {
        name for name in server.get("/object_info") if name.startswith("Pixelsmith")
    }


def small_prompt(server: Server, workflow: Path, **changes: Any) -> dict[str, Any]:
    """What the page of ComfyUI would queue for a workflow, of a small picture, with a tiny model."""
    drawn = json.loads(workflow.read_text())
    links = {link[0]: link for link in drawn["links"]}
    texts = [node["id"] for node in drawn["nodes"] if node["type"] == "CLIPTextEncode"]

    def source(link: int) -> list[Any]:
        _, origin, slot, *_ = links[link]
        kind = next(node["type"] for node in drawn["nodes"] if node["id"] == origin)
        if kind == "CheckpointLoaderSimple":
            return ["tiny", {0: 0, 2: 1}[slot]]
        return ["tiny", 2 + texts.index(origin)] if origin in texts else [str(origin), slot]

    prompt: dict[str, Any] = {"tiny": {"class_type": "TinyModel", "inputs": {"kind": "SDXL"}}}
    for node in drawn["nodes"]:
        kind = node["type"]
        if kind in ("CheckpointLoaderSimple", "CLIPTextEncode"):
            continue
        values = widget_values(server.get(f"/object_info/{kind}")[kind], node["widgets_values"])
        values |= {one["name"]: source(one["link"]) for one in node["inputs"] if one["link"] is not None}
        if kind in ("PixelsmithGenerate", "PixelsmithToFile"):
            values |= SMALL | {"method": ["method", 0]} | changes
        prompt[str(node["id"])] = {"class_type": kind, "inputs": values}
    drawn_method = next((one["inputs"] for one in prompt.values() if one["class_type"] == "PixelsmithMethod"), None)
    usual = {"preset": "default", "slider_steps": 1.0, "batch_size": 0}
    rest = dict.fromkeys(("sampler", "merge", "coverage"), "as the preset")
    prompt["method"] = {
        "class_type": "PixelsmithMethod",
        "inputs": usual | rest | (drawn_method or {}) | {"native": 64},
    }
    return prompt


def widget_values(about: Any, values: list[Any]) -> dict[str, Any]:
    """The values of a node's widgets, in the order in which they are drawn, by their names."""
    found, rest = dict[str, Any](), list(values)
    for group in ("required", "optional"):
        for name in about["input_order"].get(group, []):
            kind, *options = about["input"][group][name]
            if isinstance(kind, list) or kind in WIDGETS:
                found[name] = rest.pop(0)
                if options and options[0].get("control_after_generate"):
                    assert rest.pop(0) == "fixed"
    if rest and rest != ["image"]:
        raise ValueError(f"values of no widget: {rest}")
    return found


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows_run(server: Server, workflow: Path) -> None:
    ended = server.ended(server.queue(small_prompt(server, workflow)))
    assert ended["status"]["status_str"] == "success", ended["status"]
    shown = [picture for output in ended["outputs"].values() for picture in output["images"]]
    sizes = []
    for picture in shown:
        with Image.open(server.folder / picture["type"] / picture["subfolder"] / picture["filename"]) as seen:
            sizes.append(seen.size)
    if "file" in workflow.stem:
        assert sorted(sizes) == [(8, 6), (160, 112)]
        (file,) = (server.folder / "output" / "pixelsmith").iterdir()
        assert file.name == "picture_00001_.tif"
    else:
        assert sizes == [(160, 112)]


def test_an_interrupted_workflow_is_resumed(server: Server) -> None:
    (workflow,) = (path for path in WORKFLOWS if "file" in path.stem)
    folder = server.folder / "output" / "other"
    changes = {"filename_prefix": "other/b", "width": 320, "height": 320, "steps": 40}
    prompt = small_prompt(server, workflow, **changes)
    first = server.queue(prompt)
    until(lambda: list(folder.glob(".pixelsmith-*/run/stage-1/step-*")))
    server.post("/interrupt", {})
    ended = server.ended(first)
    assert ended["status"]["messages"][-1][0] == "execution_interrupted"
    assert not list(folder.glob("*.tif"))
    ended = server.ended(server.queue(prompt))
    assert ended["status"]["status_str"] == "success", ended["status"]
    assert [path.name for path in folder.iterdir()] == ["b_00001_.tif"]
