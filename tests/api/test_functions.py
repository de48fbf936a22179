"""From a request to pixels, with a tiny model in the real format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsmith import (
    PERTURBATIONS,
    PRESETS,
    Compute,
    Event,
    Method,
    Parts,
    Perturbation,
    PhaseFinished,
    PictureError,
    Progress,
    Request,
    RequestError,
    RunFinished,
    RunStarted,
    Size,
    StageStarted,
    Warned,
    generate,
    plan,
)
from pixelsmith.engine import inputs
from pixelsmith.families import memory_of
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.pixels.settings_inside import read_settings
from pixelsmith.pixels.slider_map import CHAINED, flatness_map
from pixelsmith.run.found import FoundModel
from pixelsmith.run.room import check_memory
from pixelsmith.run.team import Team
from tests.stopping import stop_at
from tests.zoo.all import SPECIMENS

FAST = Method(steps=3)
FLOAT = Compute(dtype="float32")


def request_of(model: Path, size: str = "150x130", **changes: Any) -> Request:
    made = Request("a map", Size.parse(size), model=str(model), method=FAST, compute=FLOAT)
    return replace(made, **changes)


@pytest.mark.parametrize("size", ["64", "150x130", "97x203", "33x20"])
def test_pictures_of_any_size_have_it_exactly(tiny_model: Path, size: str) -> None:
    expected = Size.parse(size)
    pixels = generate(request_of(tiny_model, size)).pixels
    assert pixels.shape == (expected.height, expected.width, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 1


def test_the_same_request_gives_the_same_bytes_and_another_seed_does_not(tiny_model: Path, tmp_path: Path) -> None:
    request = request_of(tiny_model)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    generate(request, paths[0])
    generate(request, paths[1])
    generate(replace(request, seed=1), paths[2])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()


@pytest.mark.parametrize("coverage", ["grid", "random"])
def test_batch_size_does_not_change_the_picture(tiny_model: Path, coverage: str) -> None:
    request = request_of(tiny_model).with_method(coverage=coverage, border=1)
    pictures = [
        generate(replace(request, compute=Compute(dtype="float32", batch_size=size))).pixels.astype(int)
        for size in (1, 5)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": Method(steps=3, border=99)}, "border"),
        ({"cascade": (Size(8, 8),)}, "shrinks"),
        ({"prompt": "a (map)9x", "prompt_weighting": True, "model": "flux"}, "prompt weighting"),
    ],
)
def test_mistakes_are_reported_before_anything_is_fetched_or_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], message: str
) -> None:
    if "model" in wrong:
        with quiet():
            SPECIMENS["flux-dev"].save(tmp_path / "flux")
        wrong = wrong | {"model": str(tmp_path / "flux")}
    touched: list[object] = []
    for name in ("run.found.fetch", "api.lifecycle.pin", "api.lifecycle.load_family"):
        monkeypatch.setattr(f"pixelsmith.{name}", lambda *given: touched.append(given))
    request = replace(request_of(tiny_model), **wrong)
    with pytest.raises(RequestError, match=message):
        generate(request)
    with pytest.raises(RequestError, match=message):
        plan(request, calibrate=True)
    assert touched == []


def warnings_of(request: Request) -> list[str]:
    heard: list[Event] = []
    generate(request, observer=heard.append)
    return [event.message for event in heard if isinstance(event, Warned)]


def test_an_unused_negative_prompt_gives_a_warning(tiny_model: Path) -> None:
    request = request_of(tiny_model, "64", negative_prompt="roads")
    assert warnings_of(request) == []
    assert warnings_of(request.with_method(guidance_scale=1.0)) == [
        "the negative prompt is not used: there is no classifier-free guidance"
    ]


def test_an_unused_guidance_gives_a_warning(tiny_model: Path) -> None:
    request = request_of(tiny_model, "64").with_method(guidance="apg")
    assert warnings_of(request) == []
    assert warnings_of(request.with_method(guidance_scale=1.0)) == [
        "guidance apg is not used: there is no classifier-free guidance"
    ]


def test_a_perturbation_without_a_step_in_its_interval_gives_a_warning(tiny_model: Path) -> None:
    """Three steps are at 0, 0.33 and 0.67 of the denoising; by default layers are skipped from 0.01 to 0.2."""
    request = request_of(tiny_model, "64")
    assert warnings_of(request.with_method(perturbation=PERTURBATIONS["pag"])) == []
    [remark] = warnings_of(request.with_method(perturbation=PERTURBATIONS["slg"]))
    assert "the perturbation is not used" in remark


@pytest.mark.parametrize("guidance", ["cfg-norm", "cfg-norm-rows", "cfg-zero"])
def test_guidance_of_velocities_is_for_flow_matching(tiny_model: Path, guidance: str) -> None:
    with pytest.raises(RequestError, match=f"{guidance} is for flow-matching models"):
        generate(request_of(tiny_model, "64").with_method(guidance=guidance))


def test_guidance_on_a_distilled_model_gives_a_warning(tmp_path: Path) -> None:
    with quiet():
        SPECIMENS["sdxl-turbo"].save(tmp_path)
    assert warnings_of(request_of(tmp_path, "64")) == []
    [remark] = warnings_of(request_of(tmp_path, "64", method=replace(PRESETS["paper"], steps=1, border=5)))
    assert "distilled for a guidance scale of 1.0; 7.5" in remark


VARIANTS: list[dict[str, Any]] = [
    {"slider": 0.0}, {"slider": 1.0}, {"slider_steps": 0.5, "slider_fade": 0.6},
    {"slider_steps": 0.5}, {"merge": "phase"}, {"merge": "phase", "chess_mask": False}, {"merge": "none"},
    {"merge": "both"}, {"merge": "phase-guide"}, {"merge": "amplitude"}, {"merge": "amplitude-guide"},
    {"merge": "guide"},
    {"border": 0}, {"border": 5}, {"coverage": "random"},
    {"sampler": "dpmpp-2m"}, {"sampler": "euler-a"}, {"sampler": "lcm"},
    {"upsampling": "bicubic"}, {"upsampling": "latent"}, {"guidance_scale": 1.0}, {"guidance_scale": 9.0},
    {"guidance_rescale": 1.0}, {"epsilon_scaling": 1.02}, {"guidance_interval": (0.5, 1.0)}, {"steps": 4},
    {"stage_steps": 5}, {"start": 0.5}, {"stage_guidance_scale": 1.0}, {"perturbation": PERTURBATIONS["pag"]},
    {"perturbation": Perturbation("slg", 2.8, (0.3, 0.6))},
]  # fmt: skip


@pytest.fixture(scope="module")
def default_pixels(tiny_model: Path) -> np.ndarray:
    return generate(request_of(tiny_model)).pixels


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_setting_changes_the_picture(
    tiny_model: Path, default_pixels: np.ndarray, changes: dict[str, Any]
) -> None:
    pixels = generate(request_of(tiny_model).with_method(**changes)).pixels
    assert pixels.shape == default_pixels.shape
    assert (pixels != default_pixels).mean() > 0.001


def test_prompt_and_negative_prompt_change_the_picture(tiny_model: Path, default_pixels: np.ndarray) -> None:
    for changes in ({"prompt": "another"}, {"negative_prompt": "roads"}):
        assert (generate(request_of(tiny_model, **changes)).pixels != default_pixels).mean() > 0.01


def test_the_paper_preset_runs(tiny_model: Path) -> None:
    paper = replace(PRESETS["paper"], steps=3, border=5)
    assert generate(request_of(tiny_model, "100", method=paper)).pixels.shape == (100, 100, 3)


@pytest.mark.parametrize("cascade", ["96", "96,192,200", "65x64", "512"])
def test_any_number_of_stages_at_any_factor(tiny_model: Path, cascade: str) -> None:
    sizes = tuple(Size.parse(size) for size in cascade.split(","))
    result = generate(request_of(tiny_model, str(sizes[-1]), cascade=sizes, method=Method(steps=2)))
    assert result.pixels.shape[:2] == (sizes[-1].height, sizes[-1].width)
    assert [stage.size for stage in result.plan.stages] == list(sizes)


def test_a_given_picture_keeps_its_structure_at_a_high_slider(tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "start.png"
    ramp = np.linspace(0, 255, 80).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (60, 80, 3)).copy()).save(path)
    request = request_of(tiny_model, "160x120", from_image=str(path)).with_method(
        guidance_scale=1.0, steps=2, slider=1.0
    )
    assert plan(request).base is None
    assert generate(request).pixels.shape == (120, 160, 3)


def test_the_settings_in_a_file_reproduce_its_picture(tiny_model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    generate(request_of(tiny_model, seed=5, negative_prompt="roads"), first)
    generate(Request.from_dict(read_settings(first)["request"]), second)
    assert first.read_bytes() == second.read_bytes()


def test_events_report_the_plan_every_stage_and_every_patch(tiny_model: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    request = request_of(tiny_model)
    the_plan = plan(request)
    generate(request, tmp_path / "x.png", heard.append)
    assert heard[0] == RunStarted(the_plan)
    assert isinstance(heard[-1], RunFinished)
    assert [event.stage for event in heard if isinstance(event, StageStarted)] == [0, 1]
    phases = [(event.stage, event.phase) for event in heard if isinstance(event, PhaseFinished)]
    assert phases == [(0, "denoise"), (0, "decode"), (1, "encode"), (1, "denoise"), (1, "decode"), (1, "write")]
    last = {
        (event.stage, event.step): event.total
        for event in heard
        if isinstance(event, Progress) and event.phase == "denoise" and event.done == event.total
    }
    assert len(last) == 2 * the_plan.stages[0].steps
    patches = [total for (stage, _), total in last.items() if stage == 1]
    assert np.mean(patches) == pytest.approx(the_plan.stages[0].patches_per_step)


def test_an_observer_that_fails_stops_the_run_and_leaves_no_file(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(request_of(tiny_model), tmp_path / "x.png", stop_at(phase="denoise"))
    assert list(tmp_path.iterdir()) == []


def test_rates_of_a_model_in_one_file_do_not_depend_on_its_revision(tiny_model: Path) -> None:
    """After a run its name contains a revision; another file of the same repository is another model."""
    model = FoundModel.of(str(tiny_model), Parts(), FLOAT)
    names = ("a/b/c.safetensors", "a/b@v1/c.safetensors", "a/b@v1/d.safetensors", "a/b@v1")
    found = [replace(model, facts=replace(model.facts, name=name)).machine[0] for name in names]
    assert found == ["a/b/c.safetensors", "a/b/c.safetensors", "a/b/d.safetensors", "a/b"]


def test_a_model_too_large_for_the_machine_is_refused_by_name(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelsmith.run.room.memory_of", lambda device: 500_000_000)
    with pytest.raises(
        RequestError, match=rf"memory: {tiny_model} needs about 70\d\.\d MB.*cpu has 500\.0 MB.*smaller model"
    ):
        generate(request_of(tiny_model))


def test_on_an_accelerator_its_own_memory_is_checked(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, heard, asked = request_of(tiny_model), list[Event](), list[str]()

    def little(device: torch.device) -> int:
        asked.append(device.type)
        return 500_000_000

    the_plan = plan(request)
    model = replace(FoundModel.of(str(tiny_model), Parts(), FLOAT), device=torch.device("cuda"))
    monkeypatch.setattr("pixelsmith.run.room.memory_of", little)
    check_memory(the_plan, model, request, heard.append)
    check_memory(the_plan, model, replace(request, compute=Compute(memory="offload")), heard.append)
    assert set(asked) == {"cuda"}
    (warned,) = heard
    assert isinstance(warned, Warned)
    assert "cuda has 500.0 MB; --memory encoders-released" in warned.message


def test_with_workers_their_memory_is_checked_and_not_that_of_the_run(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, heard = request_of(tiny_model), list[Event]()
    the_plan, model = plan(request), FoundModel.of(str(tiny_model), Parts(), FLOAT)

    def check(**memories: int | None) -> None:
        kinds = tuple(memories)
        team = Team(kinds, kinds, "float32", memories=tuple(memories.values()))
        check_memory(the_plan, model.with_team(team), request, heard.append)

    monkeypatch.setattr("pixelsmith.run.room.memory_of", lambda device: 0)
    check(cuda=2**30, cpu=2**30, mps=None)
    assert not heard
    check(cuda=500_000_000, cpu=2**30)
    (warned,) = heard
    assert isinstance(warned, Warned)
    assert "cuda has 500.0 MB for each worker; --memory offload" in warned.message
    with pytest.raises(RequestError, match=r"cpu has 400\.0 MB for each worker; .*fewer workers"):
        check(cuda=2**30, cpu=400_000_000)


def test_the_memory_of_this_machine_is_known() -> None:
    there = memory_of(torch.device("cpu"))
    assert there is not None
    assert 2**28 < there < 2**50


def test_a_painted_map_holds_one_half_and_frees_the_other(tiny_model: Path, tmp_path: Path) -> None:
    """Two pictures whose stages have different seeds: where the map is white, both equal the previous stage when
    scaled down.
    """
    Image.new("RGB", (64, 64), "teal").save(tmp_path / "start.png")
    grey = np.zeros((20, 20), np.uint8)
    grey[:, :10] = 255
    Image.fromarray(grey).save(tmp_path / "map.png")
    method = Method(steps=4, slider_map=str(tmp_path / "map.png"), slider_steps=1.0, guidance_scale=1.0)

    def made(seed: int) -> np.ndarray:
        start = str(tmp_path / "start.png")
        request = Request("a map", Size(128, 128), seed=seed, model=str(tiny_model), method=method, from_image=start)
        pixels = Image.fromarray(generate(request).pixels)
        return np.asarray(pixels.resize((32, 32), Image.Resampling.LANCZOS)).astype(int)

    apart = np.abs(made(1) - made(2)).mean(2)
    assert apart[:, 24:].mean() > 2
    assert apart[:, :8].mean() < 0.3 * apart[:, 24:].mean()


def test_new_detail_is_moderated_where_the_previous_stage_is_flat(tiny_model: Path, tmp_path: Path) -> None:
    """With a constant map, the flat left half would differ more from the previous stage."""
    start = np.full((64, 64, 3), 120, np.uint8)
    start[:, 32:] = np.random.default_rng(0).integers(0, 255, (64, 32, 3))
    Image.fromarray(start).save(tmp_path / "start.png")
    below = np.asarray(Image.fromarray(start).resize((128, 128), Image.Resampling.LANCZOS)).astype(int)

    def departure(slider_map: str) -> Any:
        method = Method(steps=4, slider_map=slider_map, slider_steps=1.0, guidance_scale=1.0)
        request = Request(
            "a map", Size(128, 128), model=str(tiny_model), method=method, from_image=str(tmp_path / "start.png")
        )
        return np.abs(generate(request).pixels.astype(int) - below).mean(2)

    moderated, even = departure("auto"), departure("even")
    assert moderated[:, 16:40].mean() < 0.8 * even[:, 16:40].mean()


def test_flat_areas_are_moderated_less_in_the_stages_after_the_first(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []

    def recorded(*args: Any, most: float) -> Any:
        used.append(most)
        return flatness_map(*args, most=most)

    monkeypatch.setattr(inputs, "flatness_map", recorded)
    generate(Request("a map", Size(192, 192), model=str(tiny_model), cascade=(Size(128, 128),), method=Method(steps=1)))
    assert used == [1.0, CHAINED]


def test_a_map_of_another_shape_than_the_result_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "map.png")
    request = request_of(tiny_model).with_method(slider_map=str(tmp_path / "map.png"))
    with pytest.raises(RequestError, match=r"slider map: expected the aspect ratio of the result \(.*\), got 20x10"):
        plan(request)
    plan(replace(request, size=Size(128, 128), wrap="xy"))


def test_a_missing_map_is_reported_before_any_work(tiny_model: Path) -> None:
    with pytest.raises(PictureError, match=r"nowhere\.png"):
        generate(request_of(tiny_model).with_method(slider_map="nowhere.png"))
