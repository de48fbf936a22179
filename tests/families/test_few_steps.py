"""A model's variant for few steps: a LoRA in its folder, with recommended settings."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsmith import (
    Compute,
    LoadedModel,
    Lora,
    Method,
    ModelError,
    Parts,
    Progress,
    Request,
    RunError,
    Size,
    generate,
    resume,
)
from pixelsmith.cli.program import cli
from pixelsmith.events import Event
from pixelsmith.families import find_model, read_facts
from pixelsmith.families.catalogue import inspect_model
from pixelsmith.pixels.settings_inside import read_settings
from tests.families.test_parts import save_lora
from tests.tiny import build_stable_diffusion

CPU = Compute("cpu", "float32")
VARIANT = {
    "lora": "lora/few-steps.safetensors",
    "scheduler": "LCMScheduler",
    "timestep_spacing": "trailing",
    "method": {"steps": 3, "guidance_scale": 1.0},
}


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model with a variant."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "lora").mkdir()
    save_lora(build_stable_diffusion(), tmp_path).rename(folder / VARIANT["lora"])  # type: ignore[operator]
    (folder / "pixelsmith.json").write_text(json.dumps({"method": {"steps": 7}, "few_steps": VARIANT}))
    return folder


def a_sea(model: Path, **parts: Any) -> Request:
    return Request("a sea", Size(64, 64), model=str(model), parts=Parts(**parts), compute=CPU)


def test_the_few_step_variant_equals_its_lora_scheduler_and_steps_set_by_hand(model: Path) -> None:
    by_hand = a_sea(
        model,
        loras=(Lora(str(model / "lora" / "few-steps.safetensors")),),
        scheduler="LCMScheduler",
        timestep_spacing="trailing",
    ).with_method(steps=3, guidance_scale=1)
    found, expected = (generate(request).pixels for request in (a_sea(model, few_steps=True), by_hand))
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, generate(replace(by_hand, parts=Parts())).pixels)


def test_settings_of_the_request_override_those_of_the_few_step_variant(model: Path) -> None:
    parts = Parts(few_steps=True, scheduler="DDIMScheduler")
    facts = read_facts(find_model(str(model), parts=parts), "x", parts)
    assert (facts.recommended.steps, facts.recommended.guidance_scale) == (3, 1)
    [(scheduler, steps)] = {
        (settings["parts"]["scheduler"], settings["method"]["steps"])
        for settings in [settings_of(replace(a_sea(model), parts=parts).with_method(steps=2), model.parent / "a.png")]
    }
    assert (scheduler, steps) == ("DDIMScheduler", 2)


def test_a_variant_of_the_stages_alone_leaves_the_base_as_it_is(model: Path) -> None:
    of_stages = {"lora": VARIANT["lora"], "stages_only": True, "method": {"stage_steps": 2, "stage_sampler": "lcm"}}
    own = {"method": {"steps": 3, "guidance_scale": 2.0}, "few_steps": of_stages}
    (model / "pixelsmith.json").write_text(json.dumps(own))
    with_it, without = (replace(a_sea(model, few_steps=given), size=Size(128, 128)) for given in (True, False))
    with LoadedModel.of(with_it) as one, LoadedModel.of(without) as other:
        assert np.array_equal(one.base(with_it), other.base(without))
    by_hand = replace(without, parts=Parts(loras=(Lora(str(model / str(VARIANT["lora"])), stages_only=True),)))
    expected = generate(by_hand.with_method(stage_steps=2, stage_sampler="lcm")).pixels
    assert np.array_equal(generate(with_it).pixels, expected)
    assert not np.array_equal(generate(without).pixels, expected)


def settings_of(request: Request, path: Path) -> dict[str, Any]:
    generate(request, path)
    settings: dict[str, Any] = read_settings(path)["request"]
    return settings


def test_the_settings_in_the_file_tell_whether_the_few_step_variant_was_used(
    model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    with_it = settings_of(a_sea(model, few_steps=True), tmp_path / "with.png")
    assert (with_it["parts"]["few_steps"], with_it["method"]["steps"]) == (True, 3)
    without = settings_of(a_sea(tiny_model, few_steps=None).with_method(steps=1), tmp_path / "without.png")
    assert without["parts"]["few_steps"] is False, "the model has none"


def test_a_required_few_step_variant_that_does_not_exist_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no few-step variant"):
        generate(a_sea(tiny_model, few_steps=True))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ((), 7),
        (("--preset", "fast"), 3),
        (("--few-steps",), 3),
        (("--preset", "fast", "--no-few-steps"), 7),
        (("--preset", "fast", "--steps", "5"), 5),
    ],
)
def test_the_fast_preset_uses_the_few_step_variant(
    model: Path, options: tuple[str, ...], steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["plan", "a sea", "--size", "64", "--model", str(model), "--json", *options], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["base"]["steps"] == steps


def test_a_run_is_not_resumed_with_other_few_step_weights(model: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == 1:
            raise KeyboardInterrupt

    request = replace(a_sea(model, few_steps=True), size=Size(100, 100), method=Method(stage_steps=2))
    with pytest.raises(KeyboardInterrupt):
        generate(request, observer=stop, run_dir=tmp_path / "run")
    file = model / "lora" / "few-steps.safetensors"
    good = file.read_bytes()
    save_lora(build_stable_diffusion(), tmp_path, seed=5).rename(file)
    with pytest.raises(RunError, match="model was"):
        resume(tmp_path / "run")
    file.write_bytes(good)
    assert resume(tmp_path / "run").pixels.shape == (100, 100, 3)


def test_models_inspect_tells_whether_there_is_a_few_step_variant(model: Path, tiny_model: Path) -> None:
    assert [inspect_model(str(place), Parts())["few_steps"] for place in (model, tiny_model)] == [True, False]


@pytest.mark.parametrize("few", [{"steps": 4}, {"lora": "x", "colour": 1}, {"lora": "x", "method": {"colour": 1}}])
def test_an_invalid_description_of_the_few_step_variant_is_refused(model: Path, few: dict[str, Any]) -> None:
    (model / "pixelsmith.json").write_text(json.dumps({"few_steps": few}))
    assert read_facts(model, "x").recommended.steps == 20
    with pytest.raises(ModelError, match=r"pixelsmith\.json"):
        read_facts(model, "x", Parts(few_steps=True))
