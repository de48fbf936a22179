"""Pictures that continue at their opposite edge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from benchmarks.joint import joint
from pixelsmith import (
    PRESETS,
    Compute,
    Method,
    Region,
    Request,
    RequestError,
    Size,
    generate,
    load,
    plan,
    resume,
)
from pixelsmith.cli.program import cli
from pixelsmith.config.request import WrapName
from pixelsmith.config.workers import Workers
from pixelsmith.geometry import Window
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.run.shown import show
from tests.stopping import stop_at

Pixels = NDArray[np.uint8]


def request_of(model: Path, size: Size = Size(160, 128), wrap: WrapName | None = "xy", **changes: Any) -> Request:  # noqa: B008
    own = Method(steps=2, guidance_scale=3.0, stage_guidance_scale=3.0)
    request = Request("a map", size, model=str(model), method=own, compute=Compute("cpu", "float32"))
    return replace(request, wrap=wrap, **changes)


def test_differences_across_the_joint_are_as_small_as_elsewhere() -> None:
    """With the embedded model, base and stage; differences of other rows are up to 1.5 times their mean, too."""
    request = Request("satellite photo of a desert", Size(512, 512), seed=3, method=PRESETS["fast"], wrap="xy")
    pixels = generate(request).pixels
    assert max(joint(pixels, 0), joint(pixels, 1)) < 1.5


@pytest.mark.parametrize("wrap", ["x", "y"])
def test_only_the_requested_axis_wraps(wrap: WrapName) -> None:
    request = Request("satellite photo of a desert", Size(288, 224), seed=3, method=PRESETS["fast"], wrap=wrap)
    pixels = generate(request).pixels
    axis = "yx".index(wrap)
    assert joint(pixels, axis) < 1.5
    assert joint(pixels, 1 - axis) > 2


@pytest.mark.parametrize(
    "method",
    [{"upsampling": "latent"}, {"merge": "phase"}, {"strategy": "multidiffusion"}, {"strategy": "direct"}],
    ids=lambda method: "-".join(method.values()),
)
def test_every_strategy_with_patches_wraps(method: dict[str, Any]) -> None:
    request = Request("satellite photo of a desert", Size(320, 320), seed=3, method=PRESETS["fast"], wrap="xy")
    pixels = generate(request.with_method(**method)).pixels
    assert max(joint(pixels, 0), joint(pixels, 1)) < 1.6


def test_batches_and_another_process_change_only_rounding(tiny_model: Path) -> None:
    request = request_of(tiny_model)
    whole = generate(request).pixels.astype(int)
    for own in (request.with_batch_size(1), request.with_batch_size(5)):
        assert np.abs(generate(own).pixels - whole).max() <= 1
    anywhere = replace(request, compute=Compute(dtype="float32", batch_size=1))
    shared = generate(anywhere, workers=Workers(("cpu",))).pixels
    assert np.abs(shared - whole).max() <= 1


def test_pieces_of_tiles_do_not_change_a_local_autoencoders_picture() -> None:
    request = Request("a map", Size(320, 256), method=Method(steps=1, stage_steps=1), wrap="xy")
    request = replace(request, compute=Compute("cpu", "float32"))
    whole, pieces = (
        generate(own).pixels for own in (request, replace(request, compute=replace(request.compute, tile=384)))
    )
    assert np.abs(whole.astype(int) - pieces).max() <= 1


@pytest.mark.parametrize("place", [{"phase": "denoise", "stage": 1, "step": 2}, {"phase": "decode", "stage": 1}])
def test_an_interrupted_run_resumes_to_the_same_bytes(tiny_model: Path, tmp_path: Path, place: dict[str, Any]) -> None:
    request = request_of(tiny_model, Size(320, 256))
    whole = generate(request).pixels
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(**place), run_dir=tmp_path / "a.run")
    assert np.array_equal(resume(tmp_path / "a.run").pixels, whole)
    assert read_settings(tmp_path / "a.png")["request"]["wrap"] == "xy"
    shown = show(tmp_path / "a.png").to_dict()
    assert shown["wrap"] == "xy"
    assert ["wrap", "xy"] in shown["settings"]


def test_a_preview_at_the_joint_equals_its_place_in_the_whole_picture() -> None:
    with load(compute=Compute("cpu", "float32", batch_size=4)) as model:
        request = model.request("watercolor map of islands", Size(768, 320), seed=3, method=Method(steps=2), wrap="x")
        found = model.preview(request, (0.0, 0.5), side=100)
        whole = model.generate(request).pixels.astype(int)
        apart = np.abs(found.pictures[0] - whole[found.window.slices])
        assert apart.mean() < 0.1
        assert apart.max() <= 4


def test_a_region_made_again_at_the_joint_keeps_it_seamless(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, Size(256, 256))
    old = generate(request, tmp_path / "a.png").pixels
    with load(str(tiny_model), compute=request.compute) as model:
        found = model.redo(replace(request, seed=9), tmp_path / "a.png", Window(60, 0, 128, 128)).picture
    new = found.read(found.size.window).permute(1, 2, 0).numpy()
    assert np.abs(new[:, 1:40].astype(int) - old[:, 1:40]).max() > 0
    assert joint(new, 1) < 1.3 * joint(old, 1) + 0.1


def test_a_given_picture_and_regions_wrap(tiny_model: Path, tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    ring = np.tile(127 + 100 * np.cos(angle), (48, 1)).astype(np.uint8)
    Image.fromarray(np.stack([ring] * 3, axis=-1)).save(tmp_path / "ring.png")
    right = Region("a sea", box=(50, 0, 50, 100), unit="percent")
    request = request_of(tiny_model, Size(192, 192), from_image=str(tmp_path / "ring.png"), regions=(right,))
    pixels = generate(request).pixels.astype(int)
    # Of random weights: its steps at borders of latents are up to 2.7 times their mean.
    steps = np.abs(np.diff(pixels, axis=1, append=pixels[:, :1])).mean(axis=(0, 2))
    assert steps[-1] <= steps[:-1].max()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": Size(150, 128)}, "multiples of 8 pixels where a picture wraps, got 150x128; the nearest is 152x128"),
        ({"cascade": (Size(96, 96), Size(128, 96))}, "cannot be cropped to another aspect ratio"),
        (
            {"method": Method(coverage="random"), "size": Size(64, 64), "cascade": (Size(64, 64),)},
            "stages longer than a patch of 64x64",
        ),
        ({"method": Method(strategy="demofusion")}, "demofusion samples the whole canvas at once"),
    ],
)
def test_requests_that_cannot_wrap_are_refused(tiny_model: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        plan(request_of(tiny_model, **changes))


def test_random_patches_cross_the_edge(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model, Size(160, 96)).with_method(coverage="random")
    with load(str(tiny_model), compute=request.compute) as model:
        whole = model.generate(request).pixels
        closeup = model.preview(request, at=(0.0, 0.5), side=48, surroundings=4)
    # As with a grid: tiles of so small a part are normalised by statistics of their own.
    apart = np.abs(closeup.pictures[0].astype(int) - whole[closeup.window.slices])
    assert apart.mean() < 1
    assert apart.max() <= 6
    with pytest.raises(KeyboardInterrupt):
        generate(request, tmp_path / "a.png", stop_at(stage=1, phase="denoise", step=2), tmp_path / "run")
    assert np.array_equal(resume(tmp_path / "run").pixels, whole)


def test_an_axis_that_does_not_wrap_may_have_any_side(tiny_model: Path) -> None:
    assert generate(request_of(tiny_model, Size(160, 101), "x")).pixels.shape == (101, 160, 3)


def test_a_long_panorama_has_a_base_of_its_shape(tiny_model: Path) -> None:
    base = plan(request_of(tiny_model, Size(1024, 128), "x")).base
    assert base is not None
    assert 7 < base.size.width / base.size.height < 9


@pytest.mark.parametrize("wrap", ["z", "", 1])
def test_unknown_axes_are_refused(wrap: Any) -> None:
    with pytest.raises(RequestError, match="wrap: expected one of x, y, xy, got"):
        Request("a map", Size(64, 64), wrap=wrap)


def test_wrapping_on_the_command_line(tiny_model: Path) -> None:
    def call(arguments: Sequence[str]) -> Any:
        return CliRunner().invoke(cli, [*arguments, "--model", str(tiny_model), "--device", "cpu"])

    found = call(["plan", "a map", "--size", "150", "--wrap", "x"])
    assert found.exit_code != 0
    assert "the nearest is 152x150" in str(found.exception)
    assert call(["plan", "a map", "--size", "160", "--wrap", "x"]).exit_code == 0
