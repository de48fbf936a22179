from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith import (
    PERTURBATIONS,
    PRESETS,
    Compute,
    Lora,
    Method,
    Parts,
    Perturbation,
    Request,
    RequestError,
    Size,
)
from pixelsmith.config.recommended import Recommended

methods = st.builds(
    Method,
    steps=st.none() | st.integers(1, 100),
    stage_steps=st.none() | st.integers(1, 100),
    start=st.none() | st.floats(0.01, 1),
    stage_guidance_scale=st.none() | st.floats(0, 20),
    sampler=st.sampled_from([None, "ddim", "dpmpp-2m"]),
    guidance=st.sampled_from([None, "cfg", "apg"]),
    guidance_scale=st.none() | st.floats(0, 20),
    guidance_interval=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple),
    perturbation=st.sampled_from([None, *PERTURBATIONS.values(), Perturbation("slg", 1.5, (0.1, 0.3), (7, 8))]),
    slider=st.floats(0, 1) | st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
    border=st.none() | st.integers(0, 10),
    coverage=st.sampled_from(["grid", "random"]),
)


@given(prompt=st.text(min_size=1).filter(str.strip), seed=st.integers(0, 2**64), method=methods)
def test_a_request_round_trips_through_json(prompt: str, seed: int, method: Method) -> None:
    request = Request(
        prompt,
        Size(640, 480),
        seed=seed,
        parts=Parts(vae="tiny", loras=(Lora("a", 0.5), Lora("b")), textual_inversions=("word.safetensors",)),
        cascade=(Size(320, 240),),
        dpi=240.0,
        method=method,
        compute=Compute("cpu", memory="offload"),
    )
    assert Request.from_dict(json.loads(json.dumps(request.to_dict()))) == request


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": " "}, "prompt is empty"),
        ({"seed": -1}, "seed"),
        ({"model": ""}, "model is empty"),
        ({"dpi": 0}, "dpi: expected a number from 1 to 10000, got 0"),
        ({"dpi": float("nan")}, "dpi"),
        ({"cascade": (Size(512, 512), Size(400, 512))}, "shrinks"),
        ({"cascade": (Size(5000, 512),)}, "shrinks"),
        ({"size": Size(10, 10), "cascade": (Size(5000, 5),)}, "shrinks"),
    ],
)
def test_a_bad_request_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Request(**{"prompt": "a map", "size": Size(2048, 2048), **changes})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("steps", 2.5), ("steps", True), ("stage_steps", 0), ("start", 0),
        ("start", 1.1), ("stage_guidance_scale", -1), ("slider", 2), ("slider", -0.1), ("slider", float("nan")),
        ("slider", "high"), ("slider", (0.5, 2)), ("slider", ()),
        ("slider_fade", 1.5), ("guidance_scale", -1), ("guidance_rescale", 2), ("epsilon_scaling", 0), ("border", -1),
        ("guidance_interval", (0.8, 0.2)), ("guidance_interval", (0.5,)),
        ("guidance_interval", ("a", "b")), ("chess_mask", 1), ("sampler", "magic"), ("merge", "cold"),
        ("slider_steps", 2), ("stage_sampler", "magic"), ("slider_map", 3), ("slider_map", ""),
        ("coverage", "none"), ("upsampling", "nearest"), ("guidance", "much"),
    ],
)  # fmt: skip
def test_a_bad_value_of_the_method_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=name.replace("_", " ")):
        Method(**{name: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sag"}, "perturbation: expected one of pag, slg"),
        ({"scale": -1}, "perturbation scale"),
        ({"interval": (0.5, 0.2)}, "perturbation interval"),
        ({"layers": (7, -1)}, "perturbed layers"),
    ],
)
def test_a_bad_value_of_a_perturbation_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        replace(PERTURBATIONS["slg"], **changes)


def test_a_perturbation_can_be_given_by_its_name() -> None:
    named: Any = "slg"
    assert Method(perturbation=named) == Method(perturbation=PERTURBATIONS["slg"])
    written = {"prompt": "a map", "size": "64", "method": {"perturbation": "slg"}}
    assert Request.from_dict(written).method.perturbation == PERTURBATIONS["slg"]


@pytest.mark.parametrize("wrong", ["sag", 3.0, True, ["pag"]])
def test_what_is_no_perturbation_is_refused(wrong: Any) -> None:
    with pytest.raises(RequestError, match="perturbation: expected a Perturbation or one of pag, slg, got"):
        Method(perturbation=wrong)


@pytest.mark.parametrize("stage", [0, 1])
def test_intervals_hold_for_the_base_and_for_the_stages(stage: int) -> None:
    perturbation = Perturbation("pag", 3.0, (0.0, 0.3))
    own = Method(steps=10, guidance_interval=(0.2, 0.5), perturbation=perturbation).at(stage, Recommended())
    assert [own.calls_at(step / 10) for step in range(10)] == [2, 2, 3, 2, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("values", [{}, {"prompt": "x"}, {"prompt": "x", "size": "64", "colour": "red"}])
def test_what_is_no_request_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Request.from_dict(values)


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("style.safetensors", Lora("style.safetensors")),
        ("a/style.safetensors:0.7", Lora("a/style.safetensors", 0.7)),
        ("C:/style.safetensors", Lora("C:/style.safetensors")),
        ("C:/style.safetensors:-1", Lora("C:/style.safetensors", -1.0)),
        ("fast.safetensors:stages", Lora("fast.safetensors", stages_only=True)),
        ("C:/fast.safetensors:0.7:stages", Lora("C:/fast.safetensors", 0.7, stages_only=True)),
    ],
)
def test_a_lora_is_a_path_and_a_weight(text: str, lora: Lora) -> None:
    assert Lora.parse(text) == lora


def test_a_weight_out_of_range_is_no_path() -> None:
    with pytest.raises(RequestError, match="weight of a LoRA"):
        Lora.parse("style.safetensors:20")


def test_parts_are_located_where_they_were_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder in ("home", "run"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "style.safetensors").touch()
    parts = Parts(
        vae="a/b", loras=(Lora("~/style.safetensors"), Lora("style.safetensors", 0.5)), scheduler="LCMScheduler"
    )
    expected = (Lora(f"{tmp_path}/home/style.safetensors"), Lora(f"{tmp_path}/run/style.safetensors", 0.5))
    assert parts.located(tmp_path / "run") == replace(parts, loras=expected)


@pytest.mark.parametrize("changes", [{"scheduler": "MagicScheduler"}, {"timestep_spacing": "wide"}])
def test_an_unknown_scheduler_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(changes)).replace("_", " ")):
        Parts(**changes)


def test_a_path_is_taken_as_text() -> None:
    request = Request("x", Size(64, 64), from_image=Path("photo.jpg"))  # type: ignore[arg-type]
    assert json.loads(json.dumps(request.to_dict()))["from_image"] == "photo.jpg"


def test_the_paper_preset_is_the_papers() -> None:
    paper = PRESETS["paper"]
    assert (paper.steps, paper.sampler, paper.guidance_scale, paper.slider) == (50, "ddim", 7.5, 0.6)
    assert (paper.coverage, paper.merge, paper.chess_mask, paper.border) == ("random", "phase", True, 10)


@given(method=methods)
def test_a_stage_has_its_own_method(method: Method) -> None:
    best = Recommended(11, guidance_scale=4.5, guidance_rescale=0.2)
    base, stage = method.at(0, best), method.at(3, best)
    assert base.steps == (method.steps or best.steps)
    assert stage.steps == (method.stage_steps or base.steps)
    assert (base.start, stage.start) == (1.0, method.start or 1.0)
    scale = best.guidance_scale if method.guidance_scale is None else method.guidance_scale
    assert base.guidance_scale == scale
    own = method.stage_guidance_scale
    assert stage.guidance_scale == (scale if own is None else own)
    assert base.schedule_steps == base.steps
    assert stage.steps <= stage.schedule_steps
    assert stage.steps / stage.schedule_steps == pytest.approx(stage.start, abs=0.5 / stage.steps)


@pytest.mark.parametrize(
    ("slider", "stages", "expected"),
    [
        (0.4, 3, [0.4] * 3), ([0.5], 3, [0.5] * 3), ((0.4, 0.6), 3, [0.4, 0.4, 0.6]), ((0.4, 0.6), 1, [0.6]),
        ((0.1, 0.2, 0.3), 2, [0.2, 0.3]), ((0.1, 0.2, 0.3), 3, [0.1, 0.2, 0.3]),
    ],
)  # fmt: skip
def test_sliders_are_those_of_the_last_stages_and_the_first_holds_before(
    slider: Any, stages: int, expected: list[float]
) -> None:
    method = Method(slider=slider)
    assert [method.at(stage, Recommended(), stages).slider for stage in range(1, stages + 1)] == expected


def test_the_start_is_the_strategys_where_nothing_is_said() -> None:
    starts = [Method(strategy="multidiffusion", start=start).at(1, Recommended()).start for start in (None, 1.0, 0.3)]
    assert starts == [0.5, 1.0, 0.3]
    assert Method().at(1, Recommended()).start == 1.0


@given(method=methods)
def test_a_settled_method_leaves_nothing_open_and_means_the_same(method: Method) -> None:
    best = Recommended(11, "apg", 4.5, 0.2, sampler="dpmpp-2m", epsilon_scaling=1.01)
    another = Recommended(7, "cfg", 3.0, 0.1)
    settled = method.settled(best)
    assert None not in (settled.steps, settled.sampler, settled.guidance)
    assert None not in (settled.guidance_scale, settled.guidance_rescale, settled.epsilon_scaling)
    assert [settled.at(i, another) for i in (0, 1)] == [method.at(i, best) for i in (0, 1)]


def test_a_model_that_is_told_its_guidance_is_never_run_twice() -> None:
    told = Recommended(guidance_scale=3.5, guidance_told=True)
    assert not any(Method().at(stage, told).guides_at(0.5) for stage in (0, 1))
    assert PRESETS["fast"].at(1, told).guidance_scale == 3.5, "saving the second call is no reason to tell it less"
    assert Method(stage_guidance_scale=2.0).at(1, told).guidance_scale == 2.0


def test_the_fast_preset_leaves_the_base_to_the_model() -> None:
    turbo = Recommended(4, guidance_scale=1.0)
    base, stage = (PRESETS["fast"].at(number, turbo) for number in (0, 1))
    assert (base.steps, base.guidance_scale, stage.steps) == (4, 1.0, PRESETS["fast"].stage_steps)


def test_a_model_recommends_steps_and_a_sampler_for_the_stages_alone() -> None:
    best = Recommended(20, stage_steps=6, sampler="dpmpp-2m", stage_sampler="ddim")

    def of_both(method: Method) -> list[tuple[int, str]]:
        return [(own.steps, own.sampler) for own in (method.at(stage, best) for stage in (0, 1))]

    assert of_both(Method()) == of_both(Method().settled(best)) == [(20, "dpmpp-2m"), (6, "ddim")]
    assert of_both(Method(steps=9, stage_steps=3, stage_sampler="lcm")) == [(9, "dpmpp-2m"), (3, "lcm")]
    for asked in (Method(steps=9, sampler="euler-a"), Method(steps=9, sampler="euler-a").settled(best)):
        assert of_both(asked) == [(9, "euler-a"), (9, "euler-a")], "what a user sets is not only for the base"
    assert Method(stage_sampler="lcm").at(1, Recommended()).sampler == "lcm"


def test_the_model_recommends_how_long_structure_is_held_except_above_a_given_picture() -> None:
    best = Recommended(slider=0.2, slider_steps=0.35)
    assert Method().settled(best).slider_steps == Method().at(1, best).slider_steps == 0.35
    assert Method().above_given_picture().settled(best).slider_steps == 1.0
    assert Method(slider=0.5).above_given_picture().slider_steps == 1.0
    assert Method(slider_steps=0.4).above_given_picture().slider_steps == 0.4
    assert Method(merge="phase").above_given_picture().slider_steps is None


def test_stages_go_without_guidance_where_the_model_recommends_it() -> None:
    best = Recommended(guidance_scale=2.0, stage_guidance_scale=1.0)
    assert [Method().at(stage, best).guides for stage in (0, 1)] == [True, False]
    assert Method(stage_guidance_scale=3.0).at(1, best).guidance_scale == 3.0
    assert Method(guidance_scale=5.0).at(0, best).guidance_scale == 5.0
    assert Method().settled(best).stage_guidance_scale == 1.0


def test_pictures_that_a_request_names_are_known() -> None:
    request = Request("a map", Size(64, 64), from_image="photo.png", method=Method(slider_map=str(Path("map.png"))))
    assert request.pictures == (Path("photo.png"), Path("map.png"))
    assert Request("a map", Size(64, 64), method=Method(slider_map="even")).pictures == ()
