"""The viewer's server: correct pixels at every level, running pictures, and nothing else."""

from __future__ import annotations

import itertools
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsmith import (
    Compute,
    Method,
    MissingPartError,
    PictureError,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
)
from pixelsmith.canvas import Array
from pixelsmith.events import Event
from pixelsmith.pixels.files import write_picture
from pixelsmith.viewer import PictureServer, server, show
from pixelsmith.web import listening, responses

SETTINGS = {"pixelsmith": "1", "request": {"prompt": "a <b>map</b>", "seed": 7, "method": {"steps": 3}}}


def gradient(size: Size) -> torch.Tensor:
    """A picture whose colours encode the position of each pixel."""
    x = torch.linspace(0, 255, size.width).expand(size.height, size.width)
    y = torch.linspace(0, 255, size.height)[:, None].expand(size.height, size.width)
    return torch.stack([x, y, (x + y) / 2]).round().to(torch.uint8)


@contextmanager
def serving(path: Path) -> Iterator[PictureServer]:
    with PictureServer(path) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def any_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder for the page, which need not have been built for these tests."""
    monkeypatch.setattr(server, "page_files", lambda package: {"/viewer.js": (b"", "text/javascript")})


def fetched(found: PictureServer, path: str) -> bytes:
    with urlopen(found.url + path) as answer:  # noqa: S310 (it is our own server)
        return bytes(answer.read())


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("suffix", ["tif", "dzi", "zip", "png", "jpg", "webp"])
def test_every_tile_of_every_level_has_the_right_pixels(tmp_path: Path, suffix: str) -> None:
    size = Size(1300, 700)
    path = tmp_path / f"map.{suffix}"
    write_picture(Array(gradient(size)), path, SETTINGS)
    expected = gradient(size).permute(1, 2, 0).numpy()
    with serving(path) as found:
        shown = json.loads(fetched(found, "shown.json"))
        assert [(item["width"], item["height"]) for item in shown["pictures"]] == [(1300, 700)]
        assert (shown["prompt"], shown["growing"]) == ("a <b>map</b>", False)
        assert ["steps", "3"] in shown["settings"]
        assert "prompt" not in [name for name, _ in shown["settings"]]
        for level in range(4):
            side = 256 << level
            for row in range(-(-size.height // side)):
                for column in range(-(-size.width // side)):
                    tile = picture(fetched(found, f"tile/0/{level}/{column}/{row}"))
                    part = expected[row * side : (row + 1) * side, column * side : (column + 1) * side]
                    assert tile.shape == (-(-part.shape[0] >> level), -(-part.shape[1] >> level), 3)
                    middle = tile[tile.shape[0] // 2, tile.shape[1] // 2]
                    assert np.abs(middle - part[part.shape[0] // 2, part.shape[1] // 2]).max() < 9


@pytest.mark.parametrize(
    "path",
    [
        "", "etc/passwd", "../server.py", "%2e%2e/server.py", "viewer.js/../../server.py", "tile/0/0/9/9",
        "tile/0/0/-1/0", "tile/0/-1/0/0", "tile/1/0/0/0", "tile/-1/0/0/0", "tile/0/99999999999/0/0", "tile/0/0/0",
        "tile/a/b/c/d", "region.png", "region.png?picture=0&left=9&top=0&right=1&bottom=5",
        "region.png?picture=0&left=nan&top=0&right=1&bottom=5", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_other_paths_are_not_found(tmp_path: Path, path: str) -> None:
    target = tmp_path / "map.png"
    write_picture(Array(gradient(Size(40, 30))), target, SETTINGS)
    with serving(target) as found, pytest.raises(HTTPError, match="404"):
        fetched(found, path)


def test_a_region_is_saved_at_full_resolution(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    write_picture(Array(gradient(Size(900, 600))), path, SETTINGS)
    with serving(path) as found:
        saved = picture(fetched(found, "region.png?picture=0&left=100&top=50&right=400&bottom=250"))
        outside = picture(fetched(found, "region.png?picture=0&left=-100&top=-50&right=100&bottom=5000"))
    assert np.array_equal(saved, gradient(Size(900, 600))[:, 50:250, 100:400].permute(1, 2, 0).numpy())
    assert outside.shape == (600, 100, 3)


def test_a_region_between_pixels_is_saved_unchanged(tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (3, 600, 900), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "map.tif"
    write_picture(Array(noise), path, SETTINGS)
    with serving(path) as found:
        saved = picture(fetched(found, "region.png?picture=0&left=100.3&top=50.9&right=399.2&bottom=249.5"))
    assert np.array_equal(saved, noise[:, 50:250, 100:400].permute(1, 2, 0).numpy())


def test_the_server_listens_on_this_machine_only(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    write_picture(Array(gradient(Size(40, 30))), path, SETTINGS)
    with PictureServer(path) as found:
        assert found.address == "127.0.0.1"
        with pytest.raises(RequestError, match="cannot be used"):
            PictureServer(path, port=found.port)


def test_the_address_of_a_server_for_other_machines_is_one_to_connect_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.png"
    write_picture(Array(gradient(Size(40, 30))), path, SETTINGS)
    with PictureServer(path, "0.0.0.0") as found:  # noqa: S104
        assert found.url == f"http://127.0.0.1:{found.port}/", "here"
        assert "0.0.0.0" not in found.whereabouts  # noqa: S104
        monkeypatch.setattr(listening, "_address_in_network", lambda address: "192.168.1.7")
        assert found.whereabouts == f"{found.url} and for other machines at http://192.168.1.7:{found.port}/"
        monkeypatch.setattr(listening, "_address_in_network", lambda address: None)
        assert found.whereabouts == found.url, "without a network"
    monkeypatch.undo()
    monkeypatch.setattr(server, "page_files", lambda package: {})
    with PictureServer(path) as found:
        assert found.whereabouts == found.url == f"http://127.0.0.1:{found.port}/"


def test_an_install_without_the_page_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.png"
    write_picture(Array(gradient(Size(40, 30))), path, SETTINGS)
    monkeypatch.undo()
    monkeypatch.setattr(responses, "OPEN_SEADRAGON", "not-built.js")
    with pytest.raises(MissingPartError, match="build it with 'make viewer'"):
        PictureServer(path)


def test_requests_with_another_host_name_are_refused(tmp_path: Path) -> None:
    """A page of another site whose host name resolves to this machine (DNS rebinding)."""
    path = tmp_path / "map.png"
    write_picture(Array(gradient(Size(40, 30))), path, SETTINGS)
    with serving(path) as found:
        for host, status in (("evil.example", 403), ("localhost:80", 200), ("127.0.0.1", 200), ("[::1]:1", 200)):
            connection = HTTPConnection("127.0.0.1", found.port)
            connection.request("GET", "/shown.json", headers={"Host": host})
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (status, True)
            connection.close()


def test_a_file_can_be_compared_with_another(tmp_path: Path) -> None:
    for name, size in (("photo.png", Size(40, 30)), ("map.png", Size(80, 60))):
        write_picture(Array(gradient(size)), tmp_path / name, SETTINGS)
    assert list(show(tmp_path / "map.png", tmp_path / "photo.png").pictures) == ["photo.png, 40x30", "80x60"]
    with pytest.raises(PictureError):
        show(tmp_path / "map.png", tmp_path / "missing.png")


def test_files_that_cannot_be_shown_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.dzi").write_text("no picture")
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    for name in ("text.png", "text.dzi", "missing.png", "missing.dzi", "missing.zip", "broken.zip"):
        with pytest.raises(PictureError):
            show(tmp_path / name)
    with pytest.raises(RunError, match="not a run directory"):
        show(tmp_path)


def test_a_running_picture_shows_what_is_done(tiny_model: Path, tmp_path: Path) -> None:
    """Stopped in the middle: finished parts of the last stage over the previous stage."""
    seen: list[tuple[int, int, bool]] = []
    looks: dict[int, list[np.ndarray]] = defaultdict(list)
    run_dir = tmp_path / "run"
    request = Request(
        "a map", Size(900, 700), model=str(tiny_model), method=Method(steps=1), compute=Compute("cpu", "float32")
    )

    def look(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "decode":
            shown = show(run_dir)
            name, last = list(shown.pictures.items())[-1]
            assert str(last.size) in name
            seen.append((len(shown.pictures), last.version, shown.growing))
            looks[len(shown.pictures)].append(
                np.asarray(last.look((0, 0, last.size.width, last.size.height), Size(100, 80)))
            )

    result = generate(request, tmp_path / "map.png", look, run_dir)
    assert [pictures for pictures, *_ in seen] == sorted(pictures for pictures, *_ in seen)
    assert all(growing for *_, growing in seen)
    views = looks[3]
    assert len(views) > 2
    changes = [(before != after).any(-1).mean() for before, after in itertools.pairwise(views)]
    assert sum(change > 0 for change in changes) >= 2, "what is there is seen at once, not when all is there"
    assert max(changes) < 0.9
    shown = show(run_dir)
    assert not shown.growing
    assert [name.split(",")[0] for name in shown.pictures] == ["base", "stage 1", "stage 2"]
    last = list(shown.pictures.values())[-1]
    exact = np.asarray(last.look((100, 50, 400, 350), Size(300, 300)))
    assert np.array_equal(exact, result.pixels[50:350, 100:400])
    small = np.asarray(last.look((0, 0, 900, 700), Size(90, 70))).astype(int)
    assert np.abs(small - np.asarray(Image.fromarray(result.pixels).resize((90, 70), Image.Resampling.BOX))).mean() < 6
