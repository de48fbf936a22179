"""Jobs of the studio, through the same operations as the page uses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pixelsmith import CancelledError, LoadedModel, Observer, Progress, Request, RequestError, Size, generate
from pixelsmith.events import Warned
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.zoomable import open_file
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.form import Form
from pixelsmith.studio.jobs import Job
from pixelsmith.studio.library import Library
from pixelsmith.studio.queue import Queue
from pixelsmith.studio.serving import StudioServer
from tests.studio.serving import eventually, finished, serving


@pytest.fixture
def form(tiny_model: Path) -> dict[str, Any]:
    return {"prompt": "A map of <Islands>, wide", "model": str(tiny_model), "size": "150x130", "seed": 5}


def pixels(path: Path) -> np.ndarray:
    file = open_file(path)
    return np.asarray(file.look((0, 0, file.size.width, file.size.height), file.size)).astype(int)


def test_from_a_prompt_to_a_picture(client: StudioClient, form: dict[str, Any], tmp_path: Path) -> None:
    project = client.create(form)
    assert project["name"].startswith("a-map-of-islands-wide-")
    made = finished(client, client.start(project["name"], "candidates", seeds=[5, 9]))
    assert (made["state"], made["results"]) == ("done", [5, 9])
    place = finished(client, client.start(project["name"], "place", at=[0.2, 0.7], sliders=[0.2, 0.8]))
    assert (place["state"], place["results"]) == ("done", [0.2, 0.8])
    grown = finished(client, client.start(project["name"], "grow"))
    assert (grown["state"], grown["file"], grown["share"]) == ("done", True, 1.0)
    client.save(grown["id"], tmp_path / "map.tif")

    request = Form.from_dict(form).request()
    assert read_settings(tmp_path / "map.tif")["request"]["seed"] == 5
    expected = generate(request, tmp_path / "expected.tif").path
    assert expected is not None
    assert np.array_equal(pixels(tmp_path / "map.tif"), pixels(expected))
    looks = json.loads(client.ask("GET", f"/api/projects/{project['name']}/looks"))
    labels = [look["label"].split(",")[0] for look in looks]
    assert labels == ["seed 5", "seed 9", "picture 1", "picture 1"]
    # What was chosen is what it grew from.
    small = [client.ask("GET", f"/api/projects/{project['name']}/looks/{looks[i]['key']}/small") for i in (0, 1, 2)]
    assert small[0] == small[2] != small[1]
    tile = client.ask("GET", f"/api/projects/{project['name']}/looks/{looks[-1]['key']}/tile/0/0/0")
    assert Image.open(BytesIO(tile)).size == (150, 130)
    shown = client.ask("GET", f"/api/projects/{project['name']}/jobs/{place['id'].split('/')[1]}/place/0.20")
    assert Image.open(BytesIO(shown)).size == (150, 130), "all of a picture that is smaller than a place"


def test_an_uploaded_picture_is_enlarged(client: StudioClient, form: dict[str, Any], tmp_path: Path) -> None:
    Image.effect_noise((80, 60), 40).convert("RGB").save(tmp_path / "photo.png")
    (tmp_path / "no.png").write_bytes((tmp_path / "photo.png").read_bytes()[:900])
    name = client.create(form | {"size": "160x120"})["name"]
    with pytest.raises(RequestError):
        client.give(name, tmp_path / "no.png")
    assert client.project(name)["given"] is None
    given = client.give(name, tmp_path / "photo.png")["given"]
    asked = json.dumps(form | {"size": "0.02MP", "project": name}).encode()
    found = json.loads(client.ask("POST", "/api/plan", asked))
    assert (found["base"], found["size"]) == (None, [163, 122]), "in the shape of the picture"
    grown = finished(client, client.start(name, "grow", form | {"size": "160x120"}))
    assert grown["state"] == "done", grown["error"]
    assert given in found["command"]


def test_warnings_are_kept_with_the_job(client: StudioClient, form: dict[str, Any], tmp_path: Path) -> None:
    Image.effect_noise((80, 60), 40).convert("RGB").save(tmp_path / "photo.png")
    name = client.create(form)["name"]
    client.give(name, tmp_path / "photo.png")
    states = list(client.events(client.start(name, "grow", form | {"size": "160x160"})["id"]))
    assert states[-1]["state"] == "done"
    said = next(text for text in states[-1]["warnings"] if "25% of the picture is cut off" in text)
    assert not any(said in state["doing"] for state in states), "that is the phase"
    (job,) = Library(tmp_path / "library").project(name).jobs()
    assert said in job.warnings


def test_a_warning_does_not_turn_progress_back(
    tmp_path: Path, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(
        job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: object, tell: Callable[[], None]
    ) -> None:
        observer(Progress(1, "denoise", 1, 2, 1, 2, share=0.5))
        for _ in range(2):
            observer(Warned("there is little memory"))
        tell()

    monkeypatch.setattr("pixelsmith.studio.queue.do", work)
    library, told = Library(tmp_path), list[Job]()
    queue = Queue(library, told.append)
    project = library.create(Form.from_dict(form))
    queue.add(project.new("candidates", project.form, seeds=(1,)).created_on_disk())
    eventually(lambda: told and told[-1].state == "done")
    queue.close()
    assert [job.share for job in told] == [0, 0, 0.5, 0.5, 0.5, 1]
    assert told[-1].warnings == ("there is little memory",), "once"


def test_one_job_runs_at_a_time_and_short_ones_come_first(client: StudioClient, form: dict[str, Any]) -> None:
    name = client.create(form)["name"]
    first, second = (client.start(name, "grow", form | {"size": "900x800", "seed": seed}) for seed in (1, 2))
    quick = client.start(name, "candidates", seeds=[3])
    eventually(lambda: client.job(first["id"])["state"] == "running")
    assert [client.job(job["id"])["state"] for job in (second, quick)] == ["waiting", "waiting"]
    with pytest.raises(RequestError, match="already"):
        client.resume(second["id"])
    eventually(lambda: client.job(first["id"])["share"] > 0)
    assert client.pause(first["id"])["doing"] == "pausing"
    assert finished(client, first)["state"] == "paused"
    assert finished(client, quick)["state"] == "done"
    eventually(lambda: client.job(second["id"])["state"] == "running")
    client.pause(second["id"])
    assert finished(client, second)["state"] == "paused"


def test_unfinished_jobs_are_resumed_by_the_next_server(any_page: None, form: dict[str, Any], tmp_path: Path) -> None:
    with serving(tmp_path / "library") as server:
        client, url = StudioClient(server.url), server.url
        name = client.create(form)["name"]
        job = client.start(name, "grow", form | {"size": "500x400"})
        eventually(lambda: client.job(job["id"])["share"] > 0)
    with serving(tmp_path / "library") as server:
        client = StudioClient(server.url)
        assert server.url.split("token=")[1] == url.split("token=")[1], "an open page goes on"
        assert [project["name"] for project in client.projects()] == [name]
        assert client.project(name)["form"] == Form.from_dict(form).to_dict()
        left = client.job(job["id"])
        assert left["state"] == "paused"
        assert 0 < left["share"] < 1
        client.resume(job["id"])
        state = finished(client, job)
        assert state["state"] == "done", state["error"]
    expected = generate(Form.from_dict(form | {"size": "500x400"}).request(), tmp_path / "expected.tif").path
    assert expected is not None
    assert np.array_equal(pixels(Library(tmp_path / "library").project(name).job("0001-grow").output), pixels(expected))


def test_a_folder_is_open_in_one_studio_at_a_time(
    server: StudioServer, client: StudioClient, form: dict[str, Any], tmp_path: Path
) -> None:
    name = client.create(form)["name"]
    job = client.start(name, "grow", form | {"size": "900x800"})
    eventually(lambda: client.job(job["id"])["state"] == "running")
    with pytest.raises(RequestError) as refused:
        StudioServer(tmp_path / "library")
    assert str(refused.value).endswith(f"it is open already at {server.url}")
    assert Library(tmp_path / "library").project(name).job("0001-grow").state == "running", "untouched"
    with serving(tmp_path / "another"):
        pass
    with serving(tmp_path / "another") as again:
        assert StudioClient(again.url).projects() == []


def test_invalid_jobs_are_refused_before_they_are_queued(
    client: StudioClient, form: dict[str, Any], tmp_path: Path
) -> None:
    name = client.create(form)["name"]
    wrong: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
        ("grow", form | {"size": "big"}, {}, "size: expected"),
        ("grow", form | {"prompt": " "}, {}, "prompt is empty"),
        ("grow", form | {"model": str(tmp_path / "none")}, {}, "none"),
        ("grow", form | {"colour": 1}, {}, "unknown field 'colour'"),
        ("grow", form | {"slider": "1"}, {}, "slider: expected a number"),
        ("grow", form | {"seed": -1}, {}, "seed: expected"),
        ("grow", form | {"prompt": "a" * 10_001}, {}, "at most 10,000"),
        ("grow", form, {"side": 3}, "unknown field 'side'"),
        ("draw", form, {}, "kind: expected"),
        ("candidates", form, {"seeds": []}, "seeds: expected"),
        ("candidates", form, {"seeds": [1.5]}, "seeds: expected"),
        ("candidates", form, {"seeds": list(range(17))}, "seeds: expected"),
        ("place", form, {"at": [0.5], "sliders": [1]}, "at: expected"),
        ("place", form, {"at": [0.5, 0.5], "sliders": [2]}, "sliders: expected"),
        ("place", form, {"at": "no", "sliders": [1]}, "at: expected a list"),
    ]
    for kind, own, values, said in wrong:
        with pytest.raises(RequestError, match=said):
            client.start(name, kind, own, **values)
    assert client.project(name)["jobs"] == []


def test_a_failed_job_has_a_reason_and_does_not_stop_others(
    client: StudioClient, server: StudioServer, form: dict[str, Any], tmp_path: Path
) -> None:
    name = client.create(form)["name"]
    first = client.start(name, "grow", form | {"size": "900x800"})
    eventually(lambda: client.job(first["id"])["state"] == "running")
    second, third = client.start(name, "candidates", seeds=[1]), client.start(name, "candidates", seeds=[2])
    # Something lies where its picture goes.
    (tmp_path / "library" / second["id"] / "1.png").mkdir()
    client.pause(first["id"])
    failed = finished(client, second)
    assert failed["state"] == "failed"
    assert "1.png" in failed["error"]
    assert finished(client, third)["state"] == "done"
    client.ask("DELETE", f"/api/projects/{name}")
    assert client.projects() == []
    assert not (tmp_path / "library" / name).exists()


def test_jobs_that_have_ended_can_be_removed(
    client: StudioClient, server: StudioServer, form: dict[str, Any], tmp_path: Path
) -> None:
    name = client.create(form)["name"]
    grown, tried = client.start(name, "grow", form | {"size": "900x800"}), client.start(name, "candidates", seeds=[1])
    eventually(lambda: client.job(grown["id"])["state"] == "running")
    for job in (grown, tried):
        with pytest.raises(RequestError, match="pause it first"):
            client.remove(job["id"])
    (tmp_path / "library" / tried["id"] / "1.png").mkdir()
    eventually(lambda: client.job(grown["id"])["share"] > 0)
    client.pause(grown["id"])
    assert finished(client, tried)["state"] == "failed"
    assert client.job(grown["id"])["state"] == "paused"
    for job in (grown, tried):
        client.remove(job["id"])
        assert not (tmp_path / "library" / job["id"]).exists(), "with its run directory"
    assert client.project(name)["jobs"] == []
    again = finished(client, client.start(name, "grow"))
    assert again["id"] == f"{name}/0001-grow"
    looks = json.loads(client.ask("GET", f"/api/projects/{name}/looks"))
    assert (looks[-1]["width"], looks[-1]["height"]) == (150, 130)
    assert client.ask("GET", f"/api/projects/{name}/looks/{looks[-1]['key']}/small")


def test_the_model_stays_loaded_after_a_job_that_ends_early(
    tmp_path: Path, form: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[LoadedModel] = []

    def work(job: Job, request: Request, model: LoadedModel, *others: object) -> None:
        models.append(model)
        if len(models) < 3:
            raise (CancelledError, RuntimeError("it failed"))[len(models) - 1]

    monkeypatch.setattr("pixelsmith.studio.queue.do", work)
    library = Library(tmp_path)
    queue = Queue(library, lambda job: None)
    project = library.create(Form.from_dict(form))
    for seed in (1, 2, 3):
        queue.add(project.new("candidates", project.form, seeds=(seed,)).created_on_disk())
    eventually(lambda: [job.state for job in project.jobs()] == ["paused", "failed", "done"])
    queue.close()
    assert len({id(model) for model in models}) == 1


def test_print_sizes() -> None:
    assert Form("a map", size="10x20cm@100dpi").request().size == Size(394, 787)
    assert Form("a map", size="10x20cm@100dpi").request().dpi == 100
    assert "--size 10x20cm@100dpi" in Form("a map", size="10x20cm@100dpi").command()


def test_a_region_is_made_again_and_restored(client: StudioClient, form: dict[str, Any], tmp_path: Path) -> None:
    name = client.create(form)["name"]
    first = finished(client, client.start(name, "grow"))
    root = first["id"].split("/")[1]
    lasso = [[10, 10], [60, 10], [60, 70], [10, 60]]
    words = form | {"prompt": "a lake", "seed": 8, "slider": 0.1}
    second = finished(client, client.start(name, "redo", words, of=root, polygon=lasso))
    assert (second["state"], second["share"], second["error"]) == ("done", 1.0, None)
    for job in (first, second):
        client.save(job["id"], tmp_path / f"{job['id'].split('/')[1]}.tif")
    before, after = (pixels(tmp_path / f"{job['id'].split('/')[1]}.tif") for job in (first, second))
    difference = np.abs(after - before).max(-1)
    assert (difference[40:60, 40:60] > 0).mean() > 0.5
    difference[12:92, 14:92] = 0
    assert difference.max() == 0, "nothing else was touched"
    said = read_settings(tmp_path / "0002-redo.tif")["redone"]
    assert [(place["prompt"], place["seed"], place["slider"]) for place in said] == [("a lake", 8, 0.1)]

    kept = Library(tmp_path / "library").project(name).job("0002-redo")
    other = replace(kept, form=replace(kept.form, size="40MP"))
    assert other.request.size == Size(150, 130), "that of the picture, whatever was typed"

    third = finished(client, client.start(name, "redo", of="0002-redo", polygon=lasso))

    def current() -> str:
        found = json.loads(client.ask("GET", f"/api/projects/{name}/looks"))
        assert {look["picture"] for look in found} == {root}
        return str([look["key"] for look in found if look["current"]][-1])

    assert current() == "0003-redo:0"
    client.use(second["id"])
    assert current() == "0002-redo:0"
    client.use(first["id"])
    assert current().startswith("0001-grow:")
    # A version that was undone stays, and stands for the picture again.
    client.use(third["id"])
    assert current() == "0003-redo:0"
    client.remove(second["id"])
    assert client.job(third["id"])["of"] == root
    with pytest.raises(RequestError, match="remove those first"):
        client.remove(first["id"])
    for wrong, message in (
        ({"of": "0009-grow"}, "of: expected"),
        ({"of": "../x"}, "of: expected"),
        ({"of": root, "polygon": [[0, 0], [1, 1]]}, "polygon: expected"),
        ({"of": root, "polygon": [[0, 0], [1, 1], [2, 101]]}, "polygon: expected"),
        ({"of": root, "polygon": [[0, 0], [1, 1], "ab"]}, "polygon: expected"),
        ({"of": root, "polygon": [[0, 0], [1, 1], 3]}, "polygon: expected"),
        ({"of": root, "polygon": [[5, 0], [5, 1], [5, 2]]}, "area is zero"),
    ):
        with pytest.raises(RequestError, match=message):
            client.start(name, "redo", form, **({"polygon": lasso} | wrong))
    with pytest.raises(RequestError, match="prompt"):
        client.start(name, "redo", form | {"prompt": " "}, of=root, polygon=lasso)
    for kind, values in (("grow", {"of": root}), ("redo", {"of": root, "polygon": lasso, "seeds": [1]})):
        with pytest.raises(RequestError, match="not a value of"):
            client.start(name, kind, form, **values)
    shutil.rmtree(tmp_path / "library" / name / root)
    assert name in {project["name"] for project in client.projects()}, (
        "a version without what it is made of is left out"
    )


def test_a_painted_map_and_regions_are_used_for_the_large_picture(
    client: StudioClient, form: dict[str, Any], tmp_path: Path
) -> None:
    Image.linear_gradient("L").resize((150, 130)).save(tmp_path / "map.png")
    regions = [
        {"prompt": "a forest", "box": [50, 0, 50, 100], "unit": "percent"},
        {"prompt": "a lake", "polygon": [[0, 0], [30, 0], [0, 40]], "unit": "percent"},
    ]
    own = form | {"regions": regions}
    name = client.create(own)["name"]
    painted = client.paint(name, tmp_path / "map.png")["map"]
    assert Image.open(BytesIO(client.ask("GET", f"/api/projects/{name}/map"))).size == (150, 130)
    command = json.loads(client.ask("POST", "/api/plan", json.dumps(own | {"project": name}).encode()))["command"]
    assert f"{name}/{painted}" in command
    assert f"{name}/regions.json" in command
    grown = finished(client, client.start(name, "grow"))
    assert grown["state"] == "done", grown["error"]
    client.save(grown["id"], tmp_path / "map.tif")
    said = read_settings(tmp_path / "map.tif")["request"]
    assert said["method"]["slider_map"].endswith(painted)
    assert [region["prompt"] for region in said["regions"]] == ["a forest", "a lake"]
    client.ask("DELETE", f"/api/projects/{name}/map")
    assert client.project(name)["map"] is None
    with pytest.raises(RequestError):
        client.ask("PUT", f"/api/projects/{name}/map", b"no picture")
    for wrong, message in (
        ([{"prompt": "x", "mask": "/etc/passwd"}], "got a mask"),
        ([{"prompt": "x"}], "expected one of"),
        ([{"prompt": "x", "colour": 1}], "regions: expected"),
        (["x"], "regions: expected"),
        (3, "regions: expected"),
        ([{"prompt": "x", "box": [0, 0, 1, 1]}] * 33, "at most 32"),
        ([{"prompt": "x", "box": [500, 0, 9, 9]}], "outside the picture"),
    ):
        with pytest.raises(RequestError, match=message):
            client.start(name, "grow", form | {"regions": wrong})
