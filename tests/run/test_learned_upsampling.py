"""Guides whose latents the model's network doubles: whole pictures, previews, other devices, resumed runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, reject
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelsmith import Compute, Method, Parts, Request, RequestError, Size, generate, load, plan, resume
from pixelsmith.cli.program import cli
from pixelsmith.config.workers import Workers
from pixelsmith.events import Event, PhaseFinished, Warned
from pixelsmith.families import read_facts
from pixelsmith.planning.planner import make_plan
from pixelsmith.planning.stage_sizes import MOST_SHRUNK, doublings_of
from pixelsmith.run.shown import show
from tests.stopping import stop_at

FLOAT = Compute("cpu", "float32", batch_size=2)


def request_of(model: Path, size: Size = Size(160, 128), **changes: Any) -> Request:  # noqa: B008
    request = Request("a map", size, model=str(model), method=Method(steps=2, upsampling="learned"), compute=FLOAT)
    return replace(request, **changes)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize(
    ("below", "size", "wrap", "times"),
    [
        ((64, 64), (128, 128), None, 1), ((64, 64), (256, 256), None, 2), ((64, 64), (255, 250), None, 2),
        ((64, 64), (110, 110), None, 0), ((64, 64), (118, 118), None, 1), ((64, 64), (180, 180), None, 1),
        ((64, 64), (256, 256), "xy", 2), ((64, 64), (248, 256), "x", 0), ((64, 64), (256, 248), "x", 2),
    ],
)  # fmt: skip
def test_latents_are_doubled_as_often_as_the_factor_has_room_for(
    enlarging_model: Path, below: tuple[int, int], size: tuple[int, int], wrap: Any, times: int
) -> None:
    request = request_of(enlarging_model, Size(*size), wrap=wrap)
    assert doublings_of(request, Size(*below), Size(*size), read_facts(enlarging_model, "x")) == times


@pytest.mark.parametrize(
    ("size", "wrap", "between"),
    [
        # The nearest multiple of 8 pixels, which is enough for wrapping alone, is 200.
        ((640, 640), "xy", (208, 208)), ((640, 640), "x", (208, 202)), ((640, 640), None, (202, 202)),
        # From 48x91, 128 would be as near, but is narrower by an eighth.
        ((416, 848), "x", (144, 278)),
    ],
)  # fmt: skip
def test_sizes_of_intermediate_stages_are_such_that_latents_can_be_doubled(
    enlarging_model: Path, size: tuple[int, int], wrap: Any, between: tuple[int, int]
) -> None:
    first, last = plan(request_of(enlarging_model, Size(*size), wrap=wrap)).stages
    assert (first.size, last.size) == (Size(*between), Size(*size))
    assert (first.doublings, last.doublings) == (1, 1)


@given(width=st.integers(10, 100), height=st.integers(10, 100), wrap=st.sampled_from(["x", "y", "xy"]))
def test_a_size_at_which_latents_can_be_doubled_is_enough(
    enlarging_model: Path, width: int, height: int, wrap: Any
) -> None:
    request = request_of(enlarging_model, Size(16 * width, 16 * height), wrap=wrap)
    facts = read_facts(enlarging_model, "x")
    try:
        make_plan(request.with_method(upsampling="lanczos"), facts)
    except RequestError:
        # The base is so narrow that multiples of its sides have another aspect ratio.
        reject()
    found = make_plan(request, facts)
    assert found.base is not None
    sizes = [stage.size for stage in (found.base, *found.stages)]
    for below, stage in zip(sizes, found.stages, strict=False):
        assert bool(stage.doublings) == (stage.size.factor_over(below) * MOST_SHRUNK >= 2)


def test_a_picture_that_wraps_is_doubled_in_every_stage(enlarging_model: Path) -> None:
    request, doubled = request_of(enlarging_model, Size(288, 288), wrap="xy"), list[int]()

    def note(event: Event) -> None:
        if isinstance(event, PhaseFinished) and event.phase == "double":
            doubled.append(event.stage)

    made = generate(request.with_method(steps=1, merge="phase"), observer=note)
    # The nearest multiple of 8 is 136.
    assert [stage.size for stage in made.plan.stages] == [Size(128, 128), Size(288, 288)]
    assert doubled == [1, 2]


@pytest.mark.parametrize(
    ("size", "cascade", "said"),
    [
        (264, (), "multiples of 16 pixels where a picture wraps, got 264x264; the nearest is 256x256"),
        (288, (Size(136, 136), Size(288, 288)), "got 136x136; the nearest is 128x128"),
    ],
)
def test_requested_sizes_at_which_no_latents_can_be_doubled_are_refused(
    enlarging_model: Path, size: int, cascade: tuple[Size, ...], said: str
) -> None:
    request = request_of(enlarging_model, Size(size, size), cascade=cascade, wrap="xy")
    with pytest.raises(RequestError, match=f"wrap: with --upsampling learned .* {said}"):
        plan(request)
    assert all(stage.doublings for stage in plan(replace(request, wrap=None)).stages)
    assert plan(request.with_method(upsampling="lanczos")).stages


def test_a_smaller_picture_is_encoded_and_its_latents_are_doubled(enlarging_model: Path) -> None:
    request, done = request_of(enlarging_model), list[tuple[int, str]]()

    def note(event: Event) -> None:
        if isinstance(event, PhaseFinished):
            done.append((event.stage, event.phase))

    made = generate(request, observer=note)
    assert done[-4:] == [(1, "encode"), (1, "double"), (1, "denoise"), (1, "decode")]
    assert difference(made.pixels, generate(request.with_method(upsampling="lanczos")).pixels) > 3
    assert [stage.doublings for stage in plan(request).stages] == [1]


def test_a_warning_is_given_if_no_stage_doubles_latents(enlarging_model: Path) -> None:
    for size, warns in ((Size(96, 96), True), (Size(128, 128), False)):
        seen: list[Event] = []
        generate(request_of(enlarging_model, size), observer=seen.append)
        lines = [event.message for event in seen if isinstance(event, Warned)]
        assert any("no stage has a size" in line for line in lines) == warns


@pytest.mark.parametrize("method", [{"merge": "phase"}, {"strategy": "multidiffusion"}, {"strategy": "demofusion"}])
def test_every_strategy_with_stages_takes_it(enlarging_model: Path, method: dict[str, Any]) -> None:
    request = request_of(enlarging_model).with_method(**method)
    assert difference(generate(request).pixels, generate(request.with_method(upsampling="lanczos")).pixels) > 0


@pytest.mark.parametrize("phase", ["encode", "double", "denoise"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(enlarging_model: Path, tmp_path: Path, phase: str) -> None:
    request = request_of(enlarging_model, Size(420, 300))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase=phase), run_dir=tmp_path / "run")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)
    shown = show(tmp_path / "a.png").to_dict()
    assert ["upsampling", "learned"] in shown["settings"]


@pytest.mark.parametrize("wrap", [None, "x"])
def test_a_preview_is_a_part_of_the_whole(wrap: Any) -> None:
    """The embedded model, whose autoencoder is exactly local."""
    sizes = (Size(384, 192), Size(768, 384))
    with load(compute=FLOAT) as model:
        method = Method(steps=1, upsampling="learned")
        request = model.request("map of a coast", sizes[-1], cascade=sizes, method=method, wrap=wrap)
        whole = model.generate(request).pixels
        closeup = model.preview(request, (0.0, 0.3), side=32, surroundings=0.5)
    assert np.abs(closeup.pictures[0].astype(int) - whole[closeup.window.slices]).mean() < 0.5


def test_another_process_makes_the_same_picture(enlarging_model: Path) -> None:
    request = request_of(enlarging_model, compute=Compute(dtype="float32", batch_size=1))
    shared = generate(request, workers=Workers(("cpu",))).pixels
    assert difference(shared, generate(request).pixels) <= 1


def test_an_upsampler_of_pixels_excludes_it(enlarging_model: Path) -> None:
    with pytest.raises(RequestError, match="latents cannot be enlarged by --upsampler"):
        request_of(enlarging_model, parts=Parts(upsampler="up.safetensors"))


def test_the_command_line_takes_it(enlarging_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    said = ["--model", str(enlarging_model), "--size", "128x96", "--steps", "1", "--device", "cpu", "-o", str(out)]
    result = CliRunner().invoke(cli, ["generate", "a map", *said, "--upsampling", "learned"])
    assert result.exit_code == 0, result.output
    assert "learned" in CliRunner().invoke(cli, ["info", str(out)]).output
