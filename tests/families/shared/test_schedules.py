"""Levels from scheduler configurations, against the schedulers' own tables and values by hand."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, get_args

import diffusers
import pytest
import torch

from pixelsmith import RequestError
from pixelsmith.config.parts import SchedulerName, TimestepSpacing
from pixelsmith.families.shared.schedules import (
    clean_estimate,
    flow_schedule,
    prediction_of,
    schedule_of,
    scheduler_class,
)
from pixelsmith.sampling.schedule import Level

FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DDIM = {"_class_name": "DDIMScheduler", **BETAS}
EULER = {"_class_name": "EulerDiscreteScheduler", **BETAS}


def test_a_shift_raises_the_noise_levels_of_flow_models() -> None:
    """σ' = s·σ / (1 + (s − 1)·σ), arXiv 2403.03206, equation 23; s = 3 makes of a half three quarters."""
    levels = flow_schedule({**FLOW, "shift": 3.0}, 4, tokens=64, mu=None).levels
    assert [level.sigma for level in levels] == pytest.approx([1, 0.9, 0.75, 0.5, 0])
    assert [level.alpha for level in levels] == pytest.approx([0, 0.1, 0.25, 0.5, 1])
    assert [level.timestep for level in levels] == pytest.approx([1000, 900, 750, 500, 0])


@pytest.mark.parametrize(("tokens", "mu"), [(256, 0.5), (4096, 1.15), (2176, 0.825)])
def test_the_dynamic_shift_follows_from_the_number_of_tokens_of_a_patch(tokens: int, mu: float) -> None:
    """σ' = e^μ / (e^μ + 1/σ − 1)."""
    levels = flow_schedule({**FLOW, "use_dynamic_shifting": True}, 2, tokens).levels
    assert levels[1].sigma == pytest.approx(math.exp(mu) / (math.exp(mu) + 1), abs=1e-6)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_the_levels_of_flow_solvers_are_their_own(name: str, dynamic: bool) -> None:
    flow = {"use_flow_sigmas": True, "flow_shift": 3.0, "use_dynamic_shifting": dynamic}
    config = {"_class_name": name, "prediction_type": "flow_prediction", **flow}
    solver = getattr(diffusers, name).from_config(config)
    solver.set_timesteps(7, **({"mu": 0.825} if dynamic else {}))
    for found in (flow_schedule(config, 7, tokens=2176), flow_schedule(config, 7, tokens=64, mu=0.825)):
        assert [level.sigma for level in found.levels] == pytest.approx(solver.sigmas.tolist())
        assert found.is_flow


def test_a_schedule_that_ends_above_zero_needs_two_steps() -> None:
    config = {**FLOW, "use_dynamic_shifting": True, "shift_terminal": 0.02}
    assert flow_schedule(config, 2, 4096).levels[1].sigma == pytest.approx(0.02)
    with pytest.raises(RequestError, match="at least 2"):
        flow_schedule(config, 1, 4096)


def test_a_number_of_steps_that_the_scheduler_rejects_is_refused() -> None:
    """Consistency models were distilled on 50 levels."""
    with pytest.raises(RequestError, match="LCMScheduler has no schedule of 60"):
        schedule_of({"_class_name": "LCMScheduler", **BETAS}, 60)


@pytest.mark.parametrize("config", [DDIM, EULER])
def test_every_number_of_steps_has_as_many_with_falling_noise(config: dict[str, Any]) -> None:
    for steps in range(1, 251):
        check_steps({**config, "timestep_spacing": "trailing"}, steps)


@pytest.mark.parametrize("spacing", get_args(TimestepSpacing))
@pytest.mark.parametrize("name", get_args(SchedulerName))
def test_every_scheduler_has_as_many_steps_as_requested(name: str, spacing: str) -> None:
    """For the last four, diffusers itself makes one more if the timesteps are trailing."""
    for steps in (1, 2, 7, 50, 61, 103, 122, 206)[: 4 if name == "LCMScheduler" else None]:
        check_steps({"_class_name": name, **BETAS, "timestep_spacing": spacing}, steps)


def check_steps(config: dict[str, Any], steps: int) -> None:
    levels = schedule_of(config, steps).levels
    assert len(levels) == steps + 1
    assert all(first.sigma > second.sigma for first, second in pairwise(levels)), steps
    assert min(level.timestep for level in levels) >= 0


def test_euler_schedules_use_sigma_over_alpha_and_end_without_noise() -> None:
    """At the last training step ᾱ = 0.00466 for Stable Diffusion's betas."""
    levels = schedule_of({**EULER, "timestep_spacing": "trailing"}, 1).levels
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    assert levels[0].alpha ** 2 == pytest.approx(float(torch.cumprod(1 - betas, 0)[-1]), rel=1e-3)
    assert levels[0].timestep == 999
    assert (levels[1].alpha, levels[1].sigma) == (1, 0)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("PNDMScheduler", "DDIMScheduler"),
        ("HeunDiscreteScheduler", "DDIMScheduler"),
        ("EulerAncestralDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
        ("FlowMatchHeunDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
        ("DDPMScheduler", "DDIMScheduler"),
    ],
)
def test_other_schedulers_map_to_supported_ones_with_their_configuration(name: str, taken: str) -> None:
    assert scheduler_class({"_class_name": name}) == taken


def test_schedules_of_consistency_models_end_with_clean_latents() -> None:
    levels = schedule_of({"_class_name": "LCMScheduler", **BETAS}, 4).levels
    assert [level.timestep for level in levels] == [999, 759, 499, 259, 0]
    assert levels[-1].sigma == 0


@pytest.mark.parametrize(
    ("config", "prediction"),
    [
        (FLOW, "flow_prediction"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "flow_prediction"),
        (EULER, "epsilon"),
        ({**EULER, "prediction_type": "v_prediction"}, "v_prediction"),
        ({**EULER, "prediction_type": "sample"}, "sample"),
    ],
)
def test_every_prediction_type_is_converted_to_clean_latents(config: dict[str, Any], prediction: str) -> None:
    assert prediction_of(config) == prediction
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    flow = prediction == "flow_prediction"
    level = Level(0.4, 0.6, 600, 0.3) if flow else Level(0.6, 0.8, 600, 0.3)
    x = level.alpha * clean + level.sigma * noise
    output = {
        "epsilon": noise,
        "v_prediction": level.alpha * noise - level.sigma * clean,
        "flow_prediction": noise - clean,
        "sample": clean,
    }[prediction]
    torch.testing.assert_close(clean_estimate(output, x, level, prediction), clean, atol=1e-5, rtol=1e-5)
