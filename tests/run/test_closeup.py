"""Previews of a place: their pixels equal those of the whole picture, for a fraction of the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith import (
    CancelledError,
    CancelToken,
    Compute,
    Event,
    LoadedModel,
    Method,
    Progress,
    Request,
    RequestError,
    RunError,
    Size,
    generate,
    load,
)
from pixelsmith.canvas import Array, MemorySpace, Part, PartlyFilled, Placed
from pixelsmith.geometry import Window
from pixelsmith.run.closeup import place_at
from pixelsmith.sampling.grid import fixed_grid
from tests.cli.test_program import Call, call  # noqa: F401

FLOAT = Compute("cpu", "float32", batch_size=4)


@pytest.fixture(scope="module")
def model() -> Any:
    with load(compute=FLOAT) as loaded:
        yield loaded


def request_of(model: LoadedModel, size: str = "704x264", **method: Any) -> Request:
    """Without guidance, which is the same for every patch and doubles the calls of the network."""
    chosen = Method(**{"steps": 2, "guidance_scale": 1.0, "stage_guidance_scale": 1.0, **method})
    return model.request("watercolor map of islands", Size.parse(size), seed=3, method=chosen)


def difference(model: LoadedModel, request: Request, at: tuple[float, float], side: int = 100) -> Any:
    """The difference of the place alone from the whole picture, in 8-bit levels."""
    found = model.preview(request, at, side=side)
    whole = model.generate(request).pixels.astype(int)[found.window.slices]
    return np.abs(found.pictures[0].astype(int) - whole)


@pytest.mark.parametrize(
    ("method", "at"),
    [
        ({"stage_guidance_scale": 2.0}, (0.5, 0.5)),
        ({"sampler": "ddim", "upsampling": "latent"}, (1.0, 0.0)),
        ({"coverage": "random"}, (0.2, 0.9)),
    ],
)
def test_a_preview_equals_its_place_in_the_whole_picture(
    model: LoadedModel, method: dict[str, Any], at: tuple[float, float]
) -> None:
    apart = difference(model, request_of(model, **method), at)
    assert apart.mean() < 0.1
    assert apart.max() <= 4


def test_a_preview_through_several_stages_and_a_final_downscaling(model: LoadedModel) -> None:
    request = replace(request_of(model, "500x330", stage_steps=1), cascade=(Size(400, 260), Size(640, 420)))
    assert difference(model, request, (0.7, 0.4)).mean() < 0.2


def patches_of(run: Callable[..., Any], *args: Any) -> int:
    """The number of patches that were denoised, counted by the model's calls."""
    from diffusers import UNet2DConditionModel

    seen, forward = [0], UNet2DConditionModel.forward

    def counted(self: Any, sample: torch.Tensor, *given: Any, **options: Any) -> Any:
        seen[0] += len(sample)
        return forward(self, sample, *given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNet2DConditionModel, "forward", counted)
        run(*args)
    return seen[0]


def test_slider_positions_share_the_base_and_give_different_pictures(tiny_model: Path) -> None:
    method = Method(steps=2, guidance_scale=1.0, stage_guidance_scale=1.0)
    request = Request("a map", Size(520, 440), model=str(tiny_model), method=method, compute=FLOAT)
    with load(str(tiny_model), compute=FLOAT) as model:
        whole = patches_of(model.generate, request)
        one = patches_of(model.preview, request, (0.5, 0.5), (0.5,))
        two = patches_of(model.preview, request, (0.5, 0.5), (0.2, 0.5))
        assert one < two < 2 * one
        assert one < whole / 2
        found = model.preview(request, (0.5, 0.5), (0.2, 0.8))
    assert found.sliders == (0.2, 0.8)
    assert not np.array_equal(found.pictures[0], found.pictures[1])
    assert found.pixels.shape == (64, 64 + 8 + 64, 3)


def test_previews_from_a_given_picture_and_from_the_finished_stages_of_a_run(
    model: LoadedModel, tmp_path: Path
) -> None:
    start = tmp_path / "start.png"
    model.generate(request_of(model, "256"), start)
    request = replace(request_of(model, "600x350"), from_image=str(start), cascade=(Size(360, 210), Size(600, 350)))
    result = model.generate(request, run_dir=tmp_path / "run")
    events: list[Event] = []
    found = model.preview(request, (0.3, 0.6), side=100, observer=events.append, run_dir=tmp_path / "run")
    assert {event.stage for event in events if isinstance(event, Progress)} == {2}, "the lower stage is there"
    assert np.abs(found.pictures[0].astype(int) - result.pixels[found.window.slices]).mean() < 0.1
    shares = [event.share for event in events if isinstance(event, Progress)]
    assert (shares == sorted(shares), shares[-1]) == (True, 1.0)
    with pytest.raises(RunError, match="another picture; it differs in seed"):
        model.preview(replace(request, seed=request.seed + 1), side=100, run_dir=tmp_path / "run")
    with pytest.raises(RunError, match="rum"):
        model.preview(request, side=100, run_dir=tmp_path / "rum")
    alone = model.preview(request, (0.3, 0.6), side=100)
    assert np.abs(alone.pictures[0].astype(int) - found.pictures[0]).mean() < 0.2


@pytest.mark.parametrize(
    ("size", "method", "said"),
    [("64", {}, "no stages"), ("200", {"strategy": "demofusion"}, "another strategy"), ("200", {}, "at: expected")],
)
def test_impossible_previews_are_refused(tiny_model: Path, size: str, method: dict[str, Any], said: str) -> None:
    request = Request("a map", Size.parse(size), model=str(tiny_model), method=Method(steps=2, **method), compute=FLOAT)
    with load(str(tiny_model), compute=FLOAT) as model, pytest.raises(RequestError, match=said):
        model.preview(request, (0.5, 1.5) if "at:" in said else (0.5, 0.5))


def test_a_preview_can_be_cancelled(tiny_model: Path) -> None:
    request = Request("a map", Size(200, 200), model=str(tiny_model), method=Method(steps=2), compute=FLOAT)
    token = CancelToken()
    with load(str(tiny_model), compute=FLOAT) as model, pytest.raises(CancelledError):
        model.preview(request, observer=lambda event: token.cancel(), cancel=token)


@given(x=st.floats(0, 1), y=st.floats(0, 1), side=st.integers(1, 500))
def test_a_place_is_inside_the_picture_and_around_its_centre(x: float, y: float, side: int) -> None:
    size = Size(300, 200)
    window = place_at((x, y), side, size)
    assert window == window.cut(size)
    assert (window.width, window.height) == (min(side, 300), min(side, 200))
    assert abs(window.left + window.width / 2 - x * 300) <= window.width / 2 + 1


def test_parts_are_read_at_their_positions() -> None:
    whole = Array(torch.arange(2 * 9 * 12.0).reshape(2, 9, 12))
    region = Window(2, 3, 5, 6)
    part = Part(whole, region)
    assert torch.equal(part.read(part.size.window), whole.read(region))
    elsewhere = Array(torch.zeros(2, 9, 12))
    placed = Placed(part, region, Window(3, 3, 2, 4), elsewhere)
    expected = torch.zeros(2, 9, 12)
    expected[:, 3:5, 3:7] = whole.values[:, 3:5, 3:7]
    for window in (elsewhere.size.window, Window(3, 4, 2, 2), Window(0, 0, 4, 5), Window(6, 0, 2, 2)):
        assert torch.equal(placed.read(window), expected[(..., *window.slices)])


def test_only_patches_that_affect_a_window_are_filled() -> None:
    tiling = fixed_grid(Size(40, 40), 10, 2, 2)
    mosaic = MemorySpace().open("x", tiling, 1)
    filled = PartlyFilled(mosaic, Window(0, 0, 12, 20), Array(torch.full((1, 40, 40), -1.0)))
    groups = list(filled.missing(4))
    assert max(map(len, groups)) <= 4
    for group in groups:
        for index in group:
            filled.put(index, torch.full((1, 10, 10), 2.0))
    assert filled.complete
    assert not mosaic.complete
    values = filled.read(Size(40, 40).window)
    assert (values[:, :12, :20] == 2).all()
    assert (values[:, 12:] == -1).all()


def test_the_command_writes_slider_positions_side_by_side(
    call: Call,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    options = ("--model", tiny_model, "--steps", 2, "--dtype", "float32", "--quiet")
    output = tmp_path / "place.png"
    code, _, err = call(
        "preview",
        "a map" + 60 * ", and then some",
        *options,
        "--size",
        200,
        "--at",
        "0.3,0.6",
        "--slider",
        "0.2,0.8",
        "-o",
        output,
    )
    assert (code, err) == (0, "")
    from pixelsmith.pixels.reading import picture_size
    from pixelsmith.pixels.settings_inside import read_settings

    assert picture_size(output) == Size(64 + 8 + 64, 64)
    settings = read_settings(output)
    assert settings["preview"] == {"window": "64x64+28+88", "sliders": [0.2, 0.8]}
    assert call("preview", "a map", *options, "--size", 200, "-o", output)[0] == 2, "a file that is there stays"
    code, _, err = call("preview", "a map", *options, "--size", 200, "--at", "here", "-o", tmp_path / "y.png")
    assert (code, "at: expected" in err) == (2, True)


def test_the_command_takes_a_run_directory(
    call: Call,  # noqa: F811
    tiny_model: Path,
    tmp_path: Path,
) -> None:
    request = Request("a map", Size(300, 300), model=str(tiny_model), method=Method(steps=2), compute=FLOAT)
    generate(request, run_dir=tmp_path / "run")
    output = tmp_path / "place.png"
    code, _, err = call("preview", tmp_path / "run", "--slider", "0.5", "-o", output, "--quiet")
    assert (code, err) == (0, "")
    assert output.exists()
    code, _, err = call("preview", tmp_path / "run", "--size", 200, "-o", tmp_path / "y.png", "--quiet")
    assert (code, "size" in err) == (2, True), "it is that of the run"


def test_smaller_surroundings_need_less_work_and_change_little(model: LoadedModel) -> None:
    request = request_of(model, "900x700")
    batches = [0, 0]

    def counted(which: int) -> Callable[[Event], None]:
        def count(event: Event) -> None:
            batches[which] += isinstance(event, Progress) and event.phase == "denoise"

        return count

    usual = model.preview(request, side=128, observer=counted(0)).pictures[0].astype(int)
    few = model.preview(request, side=128, observer=counted(1), surroundings=0).pictures[0].astype(int)
    assert batches[1] < batches[0]
    assert np.abs(usual - few).mean() < 1
    with pytest.raises(RequestError, match="surroundings: expected"):
        model.preview(request, surroundings=-1)
