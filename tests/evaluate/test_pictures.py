"""The keys of kept pictures, and their state after an interruption."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import Compute, Method, Request, Size, generate
from pixelsmith.engine.stage import Cascade
from pixelsmith.evaluate import pictures as module
from pixelsmith.evaluate.pictures import Pictures, code_digest
from pixelsmith.families import load_family
from pixelsmith.planning import planner
from pixelsmith.run.directory import RunDirectory


def request_of(model: Path, **changes: Any) -> Request:
    method = Method(steps=1, guidance_scale=1, **changes)
    return Request("a map", Size(96, 96), model=str(model), method=method, compute=Compute("cpu", "float32"))


def made(request: Request, folder: Path) -> Path:
    return Pictures(folder, request).made(request).path


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_recommended_settings_are_part_of_the_key(tiny_model: Path, tmp_path: Path) -> None:
    """The recommended rescale has the same key if it is given explicitly, and another value another key."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "pixelsmith.json").write_text(json.dumps({"method": {"guidance_rescale": 0.3}}))
    paths = [made(request_of(model, guidance_rescale=rescale), tmp_path / "p") for rescale in (None, 0.3, 0.6)]
    assert paths[0] == paths[1] != paths[2]


def test_a_picture_whose_record_was_not_written_is_made_again(tiny_model: Path, tmp_path: Path) -> None:
    """The file may be incomplete; the command line would keep it."""
    path = made(request_of(tiny_model), tmp_path)
    path.with_suffix(".json").unlink()
    assert made(request_of(tiny_model), tmp_path) == path
    assert path.with_suffix(".json").exists()


def test_changed_code_changes_the_keys(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(request_of(tiny_model), tmp_path)
    assert made(request_of(tiny_model), tmp_path) == before
    monkeypatch.setattr(module, "code_digest", lambda: "another")
    assert made(request_of(tiny_model), tmp_path) != before


def test_code_that_only_reads_pictures_is_not_part_of_the_key(tmp_path: Path) -> None:
    for name in ("sampling/chess.py", "evaluate/seams.py", "evaluate/upscalers.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1")
    digests = []
    changes: tuple[str | None, ...] = (None, "evaluate/seams.py", "evaluate/upscalers.py", "sampling/chess.py")
    for change in changes:
        if change:
            (tmp_path / change).write_text("x = 2")
        code_digest.cache_clear()
        digests.append(code_digest(tmp_path))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("when", ["begin", "delete"])
def test_runs_killed_at_their_start_or_clean_up_are_recovered(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """With canvases on disk: before the run's record exists, and after the picture is written."""
    monkeypatch.setattr(planner, "MEMORY_LIMIT", 0)
    request = request_of(tiny_model)
    expected = pixels_of(made(request, tmp_path / "whole"))

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        owner, name = {"begin": (RunDirectory, "begin"), "delete": (shutil, "rmtree")}[when]
        patched.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            made(request, tmp_path / "killed")
    assert np.array_equal(pixels_of(made(request, tmp_path / "killed")), expected)
    assert not list((tmp_path / "killed").glob("*.run"))


def test_an_interrupted_picture_is_resumed(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base is not made again, and the time of the rest is not reported as that of the whole."""
    monkeypatch.setattr(planner, "MEMORY_LIMIT", 0)
    request = request_of(tiny_model)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Cascade, "stage", killed)
        with pytest.raises(KeyboardInterrupt):
            made(request, tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("*.run/run.json"))) == 1
    made_stages: list[int] = []
    denoised = Cascade._denoised

    def counted(self: Cascade, number: int, *args: Any) -> Any:
        made_stages.extend([] if self._new_picture(number, args[0]).complete else [number])
        return denoised(self, number, *args)

    monkeypatch.setattr(Cascade, "_denoised", counted)
    resumed = [Pictures(tmp_path / "killed", request).made(request) for _ in range(2)]
    assert made_stages == [1]
    assert all(math.isnan(found.seconds) for found in resumed)
    assert np.array_equal(pixels_of(resumed[0].path), pixels_of(made(request, tmp_path / "whole")))


@pytest.mark.parametrize("changes", [{}, {"strategy": "demofusion"}, {"strategy": "direct"}, {"upsampling": "latent"}])
def test_a_picture_from_the_kept_base_equals_that_of_generate(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    request = request_of(tiny_model, **changes)
    assert np.array_equal(pixels_of(made(request, tmp_path)), generate(request).pixels)
    own_base = "direct" not in changes.values() and "latent" not in changes.values()
    assert len(list(tmp_path.glob("*.png"))) == 1 + own_base


def test_the_model_is_loaded_once_for_all_its_pictures(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []

    def counted(*given: Any) -> Any:
        loads.append(given)
        return load_family(*given)

    monkeypatch.setattr("pixelsmith.api.lifecycle.load_family", counted)
    request = request_of(tiny_model)
    pictures = Pictures(tmp_path, request)
    for seed in range(3):
        pictures.made(request.with_method(slider=0.5)).read()
        pictures.made(replace(request, seed=seed))
    assert len(loads) == 1
    pictures.made(replace(request, compute=Compute("cpu", "bfloat16")))
    assert len(loads) == 2
