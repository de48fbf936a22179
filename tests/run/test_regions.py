"""Pictures whose regions have prompts of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pixelsmith import (
    PRESETS,
    Compute,
    Method,
    PictureError,
    Progress,
    Region,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.canvas import Array
from pixelsmith.cli.program import cli
from pixelsmith.config.regions import read_regions, regions_from
from pixelsmith.evaluate.features import load_features
from pixelsmith.evaluate.judge import SUBJECTS
from pixelsmith.evaluate.seams import Borders, seam_index
from pixelsmith.events import Event
from pixelsmith.families.architecture import DiffusersFamily
from pixelsmith.geometry import Window
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.schedule import Level

LEFT = Region("a sea", box=(0, 0, 50, 100), unit="percent", negative_prompt="fog")
ALL = Region("a sea", box=(0, 0, 100, 100), unit="percent")


def request_of(model: Path, *regions: Region, **changes: Any) -> Request:
    own = Method(steps=2, guidance_scale=3.0, stage_guidance_scale=3.0)
    request = Request("a map", Size(150, 130), model=str(model), method=own, compute=Compute("cpu", "float32"))
    return replace(request, regions=regions, **changes)


def mask_of(path: Path) -> Path:
    grey = np.zeros((52, 60), np.uint8)
    grey[:, 20:] = 255
    Image.fromarray(grey).save(path)
    return path


@pytest.mark.parametrize("strategy", ["pixelsmith", "multidiffusion", "direct"])
def test_a_region_that_covers_the_picture_equals_its_prompt(tiny_model: Path, strategy: str) -> None:
    request = request_of(tiny_model, ALL).with_method(strategy=strategy)
    alone = replace(request, prompt="a sea", regions=())
    assert np.array_equal(generate(request).pixels, generate(alone).pixels)
    assert not np.array_equal(generate(alone).pixels, generate(replace(request, regions=())).pixels)


def test_batch_size_changes_only_rounding(tiny_model: Path) -> None:
    request = request_of(tiny_model, LEFT)
    one, five = (generate(request.with_batch_size(size)).pixels.astype(int) for size in (1, 5))
    assert np.abs(one - five).max() <= 1


def test_a_region_outside_the_base_changes_nothing_far_from_it(tiny_model: Path) -> None:
    left = replace(LEFT, box=(0, 0, 10, 100), feather=0.0)
    request = request_of(tiny_model, left, size=Size(400, 64), regions_in="stages").with_method(steps=1)
    plain, made = generate(replace(request, regions=())).pixels, generate(request).pixels
    assert not np.array_equal(plain[:, :40], made[:, :40])
    assert np.abs(plain[:, 300:].astype(int) - made[:, 300:]).max() <= 1


def test_the_plan_estimates_the_model_calls(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From windows spread over a canvas: close to the calls of its patches, and exact for a base."""
    calls = 0
    own = DiffusersFamily.denoiser

    def counted(self: DiffusersFamily, *args: Any, **options: Any) -> Denoiser:
        denoiser = own(self, *args, **options)

        def call(x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
            nonlocal calls
            calls += len(x)
            return denoiser(x, level, windows)

        return call

    monkeypatch.setattr(DiffusersFamily, "denoiser", counted)
    base = request_of(tiny_model, LEFT, size=Size(64, 64))
    generate(base)
    assert calls == plan(base).model_calls == 8, "two steps with two prompts and two negative ones"
    calls, request = 0, request_of(tiny_model, LEFT, size=Size(256, 256))
    generate(request)
    assert plan(request).model_calls == pytest.approx(calls, rel=0.15)
    assert calls > 1.1 * plan(replace(request, regions=())).model_calls


def test_two_regions_show_two_subjects_and_no_seam() -> None:
    """The embedded model's judge classifies each half of its picture."""
    left = "watercolor map of islands in a turquoise sea"
    right = Region("satellite photo of a desert", box=(50, 0, 50, 100), unit="percent")
    request = Request(left, Size(512, 256), method=PRESETS["fast"], regions=(right,))
    pixels = generate(request).pixels
    found = load_features("judge")(np.stack([pixels[:, :256], pixels[:, 256:]])).probabilities
    assert found is not None
    subjects = [list(SUBJECTS)[row.argmax()] for row in found]
    assert subjects == ["islands", "desert"]
    across, down = np.zeros((32, 63), bool), np.zeros((31, 64), bool)
    across[:, 31] = True
    index = seam_index(Array(torch.from_numpy(pixels).permute(2, 0, 1)), Borders(across, down, 8))
    assert index < 1.5, "where the regions meet, against latents beside"


def test_a_painted_mask_a_polygon_and_a_file_of_them(tiny_model: Path, tmp_path: Path) -> None:
    mask_of(tmp_path / "mask.png")
    right: dict[str, Any] = {"prompt": "a sea", "unit": "percent", "feather": 0}
    corners = [[100 / 3, 0], [100, 0], [100, 100], [100 / 3, 100]]
    values = [{"prompt": "a sea", "feather": 0, "mask": "mask.png"}, {**right, "polygon": corners}]
    file = tmp_path / "regions.json"
    file.write_text(json.dumps(values))
    masked, polygon = read_regions(str(file))
    assert masked.mask == str(tmp_path / "mask.png")
    one, other = (generate(request_of(tiny_model, region)).pixels.astype(int) for region in (masked, polygon))
    plain = generate(request_of(tiny_model)).pixels.astype(int)
    assert np.abs(one - other).mean() < 0.25 * np.abs(one - plain).mean()


def test_captions_are_put_before_the_prompt_of_their_region(tiny_model: Path) -> None:
    """With captions too, a region that covers the picture equals its prompt; the embedded model has a captioner."""
    method = replace(PRESETS["fast"], captions="auto", stage_steps=2, steps=2)
    request = Request("a map", Size(512, 256), method=method, compute=Compute("cpu", "float32"), regions=(ALL,))
    alone = replace(request, prompt="a sea", regions=())
    assert np.array_equal(generate(request).pixels, generate(alone).pixels)


def test_a_preview_with_regions_equals_its_place_in_the_whole_picture(tiny_model: Path) -> None:
    request = request_of(tiny_model, LEFT, size=Size(300, 130))
    with load(str(tiny_model), compute=request.compute) as model:
        whole, place = model.generate(request).pixels, model.preview(request, (0.5, 0.5), side=64)
    window = place.window
    part = whole[window.top : window.bottom, window.left : window.right].astype(int)
    plain = generate(replace(request, regions=())).pixels[window.top : window.bottom, window.left : window.right]
    assert np.abs(place.pictures[0] - part).mean() < 0.2 * np.abs(plain - part).mean()


def stop_at(stage: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == stage and event.phase == "denoise":
            raise KeyboardInterrupt

    return stop


def test_a_resumed_run_keeps_its_regions_and_refuses_another_mask(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mask = mask_of(tmp_path / "mask.png")
    request = request_of(tiny_model, LEFT, Region("a forest", mask="mask.png", strength=0.5))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, Path("a.png"), stop_at(1), Path("a.run"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    content = mask.read_bytes()
    Image.new("L", (60, 52), 255).save(mask)
    with pytest.raises(RunError, match="pictures was"):
        resume(tmp_path / "a.run")
    mask.write_bytes(content)
    resume(tmp_path / "a.run")
    made = np.asarray(Image.open(tmp_path / "a.png"))
    assert np.array_equal(made, whole)
    settings = read_settings(tmp_path / "a.png")
    assert Request.from_dict(settings["request"]).regions == request.regions


def test_a_request_round_trips_through_json() -> None:
    regions = (
        LEFT,
        Region("a bay", polygon=((0, 0), (9, 0), (0, 9)), strength=0.3),
        Region("an isle", mask="isle.png"),
    )
    request = Request("a map", Size(64, 64), regions=regions, regions_in="stages")
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request
    assert request.texts(0) == (("a map", ""),)
    assert request.texts(1)[1] == ("a sea", "fog")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--region", "0,0,10,10"], "expected X,Y,W,H: PROMPT in pixels"),
        (["--region", "0,0,10,10:  "], "expected X,Y,W,H: PROMPT in pixels"),
        (["--region", "0,0,10: a sea"], "expected X,Y,W,H: PROMPT in pixels"),
        (["--region", "0,0,50%,10: a sea"], "expected either pixels or percent, got both"),
        (["--region", "0,0,0,10: a sea"], "with a width and a height above 0"),
        (["--region", "600,0,10,10: a sea"], "it lies outside the picture of 512x512"),
        (["--region", "0,-20%,10%,10%: a sea"], "it lies outside the picture of 512x512"),
        (["--regions", "none.json"], "regions: none.json"),
        (["--regions", "empty.json"], "expected a JSON list of objects"),
        (["--regions", "wrong.json"], "expected a JSON list of objects"),
        (["--regions", "shapeless.json"], "region 'a sea': expected one of box, polygon, mask"),
        (["--regions", "line.json"], "expected three corners X,Y or more"),
        (["--region", "0,0,9,9: a sea", "--memory", "encoders-released"], "frees the text encoders"),
        (["--region", "0,0,9,9: a sea", "--strategy", "demofusion"], "demofusion samples the whole canvas"),
        (["--region", "0,0,9,9: a sea", "--strategy", "direct", "--regions-in", "stages"], "there are no stages"),
    ],
)
def test_invalid_regions_are_refused(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.json").write_text("{}")
    Path("wrong.json").write_text('[{"promt": "a sea"}]')
    Path("shapeless.json").write_text('[{"prompt": "a sea"}]')
    Path("line.json").write_text('[{"prompt": "a sea", "polygon": [[0, 0], [9, 9]]}]')
    result = CliRunner().invoke(cli, ["plan", "a map", "--size", "512", *words])
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output


def test_a_mask_that_is_not_a_picture_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_text("none")
    with pytest.raises(PictureError, match=r"mask\.png"):
        plan(request_of(tiny_model, Region("a sea", mask=str(tmp_path / "mask.png"))))


def test_a_mask_of_another_shape_than_the_result_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, Region("a sea", mask=str(mask_of(tmp_path / "mask.png"))), size=Size(60, 60))
    with pytest.raises(
        RequestError, match=r"mask of the region 'a sea': expected the aspect ratio of the result \(60x60\), got 60x52"
    ):
        plan(request)
    plan(replace(request, wrap="x"))


def test_values_out_of_range_are_refused() -> None:
    for values in ({"strength": 2}, {"feather": -1}, {"unit": "feet"}, {"prompt": " "}, {"polygon": ((0, 0),) * 3}):
        with pytest.raises(RequestError):
            regions_from([{"prompt": "a sea", "box": (0, 0, 1, 1), **values}])
    with pytest.raises(RequestError, match="outside"):
        Request("a map", Size(64, 64), regions=(Region("a sea", box=(64, 0, 9, 9)),))
