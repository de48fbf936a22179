"""Existing pictures are replaced only on request; output problems are found before any work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelsmith import Compute, Method, PictureError, Request, RunError, Size, generate, plan, resume
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.settings_inside import read_settings
from tests.pixels.odd import picture, profile, tags, write_tiff
from tests.stopping import stop_at

"""Its name is that of the function as well."""


def request_of(model: Path, **changes: Any) -> Request:
    made = Request("a map", Size(70, 60), model=str(model), method=Method(steps=1), compute=Compute("cpu", "float32"))
    return replace(made, **changes)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("pixelsmith.api.lifecycle.load_family", refuse)


def test_an_existing_picture_is_replaced_only_on_request(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    generate(request_of(tiny_model), path)
    before = path.read_bytes()
    with pytest.raises(PictureError, match="there is a file already; choose another name, or overwrite it"):
        generate(request_of(tiny_model, seed=1), path)
    assert path.read_bytes() == before
    generate(request_of(tiny_model, seed=1), path, overwrite=True)
    assert read_settings(path)["request"]["seed"] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["map.png"]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("suffix", [".png", ".dzi", ".zip"])
def test_unwritable_outputs_are_reported_before_any_work(tiny_model: Path, tmp_path: Path, suffix: str) -> None:
    for name in ("x" * 253, "東" * 84):
        with pytest.raises(PictureError, match="File name too long"):
            generate(request_of(tiny_model), tmp_path / f"{name}{suffix}")
    with pytest.raises(RunError, match="File name too long"):
        generate(request_of(tiny_model), tmp_path / f"map{suffix}", run_dir=tmp_path / ("x" * 256))
    with Output(tmp_path / f"map{suffix}"), pytest.raises(PictureError, match="another process is writing it"):
        generate(request_of(tiny_model), tmp_path / f"map{suffix}")
    assert list(tmp_path.iterdir()) == []


def interrupted(request: Request, folder: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        generate(request, folder / "map.png", stop_at(), folder / "run", overwrite=True)
    return folder / "run"


def test_a_resumed_run_replaces_only_its_own_picture(tiny_model: Path, tmp_path: Path) -> None:
    run_dir, path = interrupted(request_of(tiny_model), tmp_path), tmp_path / "map.png"
    generate(request_of(tiny_model, seed=1), path)
    with pytest.raises(PictureError, match="--overwrite"):
        resume(run_dir)
    resume(run_dir, overwrite=True)
    assert read_settings(path)["request"]["seed"] == 0
    before = path.read_bytes()
    resume(run_dir)
    assert path.read_bytes() == before


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_plan_and_run_use_the_same_start_picture(tiny_model: Path, tmp_path: Path, orientation: int) -> None:
    start = write_tiff(tmp_path / "start.tif", [picture().tobytes()], tags(t274=(3, [orientation])))
    turned = Size(144, 192) if orientation > 4 else Size(192, 144)
    request = request_of(tiny_model, from_image=str(start), size=turned)
    planned = plan(request)
    assert [stage.size for stage in planned.stages] == [turned]
    result = generate(request, tmp_path / "map.png")
    assert result.plan.stages == planned.stages
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (turned.width, turned.height)


def test_the_colour_profile_of_a_start_picture_is_used(tiny_model: Path, tmp_path: Path) -> None:
    """The same colours in Display P3 and in sRGB start the same picture, up to rounding."""
    Image.new("RGB", (64, 64), (234, 51, 34)).save(tmp_path / "p3.png", icc_profile=profile("p3"))
    Image.new("RGB", (64, 64), (255, 0, 0)).save(tmp_path / "srgb.png")
    made = [
        generate(request_of(tiny_model, from_image=str(tmp_path / f"{name}.png"), size=Size(128, 128))).pixels
        for name in ("p3", "srgb")
    ]
    assert abs(made[0].astype(int) - made[1]).mean() < 1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_ends_the_command_like_ctrl_c(tiny_model: Path, tmp_path: Path) -> None:
    options = ("--size", 400, "--steps", 500, "--model", tiny_model, "--output", tmp_path / "x.png", "--json")
    command = [sys.executable, "-m", "pixelsmith", "generate", "a map", *map(str, options)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if '"denoise"' in line)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=100)
    assert (process.returncode, said.strip()) == (143, "pixelsmith: ended by SIGTERM")
    assert list(tmp_path.iterdir()) == []
