from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from pixelsmith import (
    Compute,
    ControlNet,
    Event,
    Lora,
    Method,
    Parts,
    PhaseFinished,
    Plan,
    Progress,
    Request,
    Size,
    generate,
    plan,
)  # fmt: skip
from pixelsmith.planning.forecast import Forecast, Rates, load_rates, rated_as, save_rates, seconds_of, work_of
from pixelsmith.planning.planner import make_plan
from pixelsmith.run import calibrate
from pixelsmith.run.found import FoundModel
from tests.planning.test_planner import EMBEDDED_LIKE

METHOD = Method(steps=4, guidance_interval=(0.0, 0.5))
METHOD_AT = partial(METHOD.at, recommended=EMBEDDED_LIKE.recommended)
CASCADE = (Size(724, 724), Size(2048, 2048))
PLAN = make_plan(Request("a map", Size(2048, 2048), method=METHOD, cascade=CASCADE), EMBEDDED_LIKE)
TRUE = Rates(encode=1.7, denoise=0.2, decode=0.4, write=0.01, control=1.1, upsample=0.6)
UPSAMPLED = replace(PLAN, stages=(PLAN.stages[0], replace(PLAN.stages[1], upsampled_tiles=(4, 16))))


def events_of_a_run(seconds: list[float], true: Rates = TRUE, plan: Plan = PLAN) -> list[tuple[float, Event]]:
    """All events of a run at the true rates, with the time of each."""
    now = 0.0
    found: list[tuple[float, Event]] = []
    work = work_of(plan, METHOD_AT)
    for (stage, phase), units in work.items():
        rung = plan.base if stage == 0 else plan.stages[stage - 1]
        assert rung is not None
        if phase == "denoise":
            for step in range(1, 5):
                evaluations = rung.patches_per_step * (2 if step <= 2 else 1)
                for batch in range(1, 11):
                    now += evaluations / 10 * true.denoise
                    found.append((now, Progress(stage, phase, step, 4, batch, 10)))
        elif phase != "write":
            times = plan.encoded_controls if phase == "control" else 1
            for number, part in enumerate(rung.upsampled_tiles if phase == "upsample" else [units / times] * times):
                if number:
                    found.append((now, PhaseFinished(stage, phase, part * true.of(phase))))
                for tile in range(1, 9):
                    now += part / 8 * true.of(phase)
                    found.append((now, Progress(stage, phase, 1, 1, tile, 8)))
        else:
            now += units * true.write
        found.append((now, PhaseFinished(stage, phase, units * true.of(phase))))
    seconds.append(now)
    return found


def test_the_work_of_a_run_follows_from_its_plan() -> None:
    work = work_of(PLAN, METHOD_AT)
    assert sum(units for (_, phase), units in work.items() if phase == "denoise") == pytest.approx(
        PLAN.model_calls, 0.01
    )
    assert work[len(PLAN.stages), "write"] == pytest.approx(2048**2 / 1e6)
    assert (0, "encode") not in work
    assert seconds_of(PLAN, METHOD_AT, TRUE) == pytest.approx(sum(TRUE.of(phase) * u for (_, phase), u in work.items()))


@pytest.mark.parametrize(
    "plan", [PLAN, replace(PLAN, encoded_controls=3), UPSAMPLED], ids=["plain", "controlled", "upsampled"]
)
def test_time_left_is_accurate_after_a_tenth_of_a_run_and_ends_at_zero(plan: Plan) -> None:
    """Also if the rates of the last run were wrong by a factor: rates measured in this run replace them."""
    seconds: list[float] = []
    events = events_of_a_run(seconds, plan=plan)
    now = 0.0
    forecast = Forecast(plan, METHOD_AT, Rates(1.5, 0.1, 0.5, 0.01, control=0.5, upsample=0.5), lambda: now)
    shares = []
    for now, event in events:
        forecast(event)
        shares.append(forecast.share)
        if now > 0.1 * seconds[0]:
            assert forecast.seconds_left == pytest.approx(seconds[0] - now, rel=0.2, abs=0.03 * seconds[0])
    assert shares[-1] == 1
    assert forecast.seconds_left == 0
    assert forecast.rates.denoise == pytest.approx(TRUE.denoise, rel=0.05)


def test_control_pictures_are_encoded_in_the_base_and_in_each_stage() -> None:
    work = work_of(replace(PLAN, encoded_controls=2), METHOD_AT)
    assert PLAN.base is not None
    expected = {number: 2 * rung.size.area / 1e6 for number, rung in enumerate((PLAN.base, *PLAN.stages))}
    assert {stage: units for (stage, phase), units in work.items() if phase == "control"} == expected
    assert not any(phase == "control" for _, phase in work_of(PLAN, METHOD_AT))


def test_each_control_picture_is_encoded_in_its_own_phase() -> None:
    forecast = Forecast(replace(PLAN, encoded_controls=2), METHOD_AT, TRUE)
    assert PLAN.base is not None
    whole, one = forecast.seconds_left, PLAN.base.size.area / 1e6 * TRUE.control
    for ended in (1, 2):
        forecast(Progress(0, "control", 1, 1, 1, 2))
        assert whole - forecast.seconds_left == pytest.approx((ended - 0.5) * one)
        forecast(PhaseFinished(0, "control", 1.0))
        assert whole - forecast.seconds_left == pytest.approx(ended * one)


def test_each_pass_of_an_upsampler_counts_by_its_tiles() -> None:
    now = 0.0
    forecast = Forecast(UPSAMPLED, METHOD_AT, TRUE, lambda: now)
    forecast(PhaseFinished(1, "decode", 1.0))
    whole = forecast.seconds_left
    events: list[tuple[int, Event]] = [
        (2, Progress(2, "upsample", 1, 1, 2, 4)),
        (4, PhaseFinished(2, "upsample", 1.0)),
        (8, Progress(2, "upsample", 1, 1, 4, 16)),
        (20, PhaseFinished(2, "upsample", 1.0)),
    ]
    for done, event in events:
        now = done * TRUE.upsample
        forecast(event)
        assert whole - forecast.seconds_left == pytest.approx(done * TRUE.upsample)


def test_one_process_upsamples_while_it_encodes() -> None:
    """The time of the phase is divided between both in proportion to their rates, which end twice as high here."""
    now = 0.0
    forecast = Forecast(UPSAMPLED, METHOD_AT, TRUE, lambda: now)
    forecast(PhaseFinished(1, "decode", 1.0))
    cost = 20 * TRUE.upsample + 2048**2 / 1e6 * TRUE.encode
    left = forecast.seconds_left - cost
    for tile in range(9):
        now = 2 * cost * tile / 8
        forecast(Progress(2, "encode", 1, 1, tile, 8))
        assert forecast.seconds_left == pytest.approx(left + cost * (1 - tile / 8) * (2 if tile else 1))
    assert (forecast.rates.upsample, forecast.rates.encode) == pytest.approx((2 * TRUE.upsample, 2 * TRUE.encode))
    forecast(PhaseFinished(2, "encode", 2 * cost))
    assert forecast.seconds_left == pytest.approx(left)


def test_the_first_run_of_a_model_measures_its_rates_early() -> None:
    """The network and the autoencoder are slower than the defaults, by different factors."""
    seconds: list[float] = []
    events = events_of_a_run(seconds, Rates(encode=9.0, denoise=20.0, decode=14.0, write=0.06))
    now = 0.0
    forecast = Forecast(PLAN, METHOD_AT, None, lambda: now)
    for now, event in events:
        forecast(event)
        if isinstance(event, Progress) and event.stage > 0 and event.done > 1:
            assert forecast.seconds_left == pytest.approx(seconds[0] - now, rel=0.05, abs=0.01 * seconds[0])
    assert forecast.known


def test_a_run_without_denoising_does_not_measure_rates() -> None:
    """A resumed run of which only the file is left to write."""
    forecast = Forecast(PLAN, METHOD_AT, None)
    forecast(PhaseFinished(len(PLAN.stages), "write", 3.0))
    assert not forecast.known
    assert Forecast(PLAN, METHOD_AT, TRUE).known


def test_a_resumed_run_does_not_count_finished_work() -> None:
    seconds: list[float] = []
    events = events_of_a_run(seconds)
    half = len(events) // 2
    now = events[half - 1][0]
    forecast = Forecast(PLAN, METHOD_AT, TRUE, lambda: now)
    for now, event in events[half:]:
        forecast(event)
        assert forecast.seconds_left == pytest.approx(seconds[0] - now, rel=0.05, abs=0.01 * seconds[0])


def test_rates_are_saved_by_model_and_device() -> None:
    assert load_rates("m", "cpu", "float32") is None
    save_rates(TRUE, "m", "cpu", "float32")
    save_rates(Rates(), "m", "cuda", "float16")
    assert load_rates("m", "cpu", "float32") == TRUE
    assert load_rates("m", "cuda", "float16") == Rates()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"m cpu float32": 3}',
        '{"m cpu float32": {"speed": 1}}',
        '{"m cpu float32": {"encode": null}}',
        '{"m cpu float32": {"denoise": -1.0}}',
    ],
)
def test_damaged_rates_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "pixelsmith").mkdir()
    (tmp_path / "pixelsmith" / "rates.json").write_text(content)
    assert load_rates("m", "cpu", "float32") is None
    save_rates(TRUE, "m", "cpu", "float32")
    assert load_rates("m", "cpu", "float32") == TRUE


@pytest.mark.parametrize(
    ("parts", "compute", "name"),
    [
        (Parts(loras=(Lora("a"),), variant="fp16"), Compute(memory="encoders-released", batch_size=3), "m"),
        (Parts(controlnets=(ControlNet("a"), ControlNet("b", 0.0))), Compute(), "m controlnets=1"),
        (Parts(vae="tiny", quantize="int8"), Compute(memory="offload"), "m vae=tiny quantize=int8 memory=offload"),
    ],
)
def test_rates_are_keyed_by_the_parts_and_settings_that_change_them(parts: Parts, compute: Compute, name: str) -> None:
    assert rated_as("m", parts, compute) == name


def test_rates_do_not_depend_on_revisions(tiny_model: Path) -> None:
    found = FoundModel.of(str(tiny_model), Parts(), Compute())
    parts = Parts(vae="owner/vae@0123abc", network="owner/net@0123abc/q4.gguf")
    assert replace(found, parts=parts).rated_as == f"{found.facts.name} vae=owner/vae network=owner/net/q4.gguf"


def test_a_plan_estimates_the_time_after_a_run_or_a_calibration(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(
        "a map", Size(150, 130), model=str(tiny_model), method=Method(steps=3), compute=Compute("cpu", "float32")
    )
    assert plan(request).seconds is None
    events: list[Event] = []
    generate(request, observer=events.append)
    after_a_run = plan(request).seconds
    assert after_a_run is not None
    assert after_a_run > 0
    shares = [event.share for event in events if isinstance(event, Progress)]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1
    other = Request("a map", Size(150, 130), model=str(tiny_model), compute=Compute("cpu", "bfloat16"))
    assert plan(other).seconds is None
    assert (plan(other, calibrate=True).seconds or 0) > 0
    assert plan(other).seconds is not None


def test_denoising_a_whole_canvas_is_not_taken_as_the_rate_of_a_patch(tiny_model: Path) -> None:
    method = Method(steps=2, guidance_scale=1, strategy="direct")
    request = Request("a map", Size(128, 128), model=str(tiny_model), method=method, compute=Compute("cpu"))
    generate(request)
    assert plan(request).seconds is None
    generate(replace(request, size=Size(64, 64)))
    assert plan(request).seconds is not None


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_a_measurement_synchronises_with_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", said.append)
    device = torch.device(kind)
    assert calibrate._seconds(lambda: said.append("called"), device) >= 0
    assert said == ["called", device] * 2
