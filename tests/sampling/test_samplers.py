from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler, LCMScheduler
from torch import Tensor

from pixelsmith.geometry import Size
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.samplers import SAMPLERS, Move
from pixelsmith.sampling.schedule import CLEAN, Level

FLOW = [Level(1 - sigma, sigma, 1000 * sigma, 1 - sigma) for sigma in (1.0, 0.7, 0.4, 0.1, 0.0)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def move(x: Tensor, clean: Tensor, t: Level, s: Level, noise: Tensor) -> Move:
    return Move(x, clean, t, s, None, None, lambda: noise)


def test_euler_ancestral_equals_the_scheduler_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole trajectory with the same noise; diffusers' latents are x/α."""
    scheduler = EulerAncestralDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(8)
    levels = [Level(1 / math.hypot(1, s), s / math.hypot(1, s), 0, 0) for s in scheduler.sigmas.tolist()[:-1]]
    x = drawn(1, 4, 6, 6)
    theirs = x / levels[0].alpha
    for i, (t, s) in enumerate(pairwise([*levels, CLEAN])):
        noise = drawn(1, 4, 6, 6, seed=i + 1)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor", lambda *a, noise=noise, **o: noise
        )
        clean = torch.tanh(x)
        scheduler.is_scale_input_called = True
        sigma = scheduler.sigmas[i]
        # It knows estimates of the noise and of the velocity only.
        scheduler.config.prediction_type = "epsilon"
        theirs = scheduler.step((theirs - clean) / sigma, scheduler.timesteps[i], theirs).prev_sample
        x = SAMPLERS["euler-a"].move(move(x, clean, t, s, noise))
        torch.testing.assert_close(x / s.alpha, theirs, atol=1e-4, rtol=1e-4)


def test_lcm_equals_the_scheduler_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except for its boundary scaling of the estimate, which is not part of the rule."""
    scheduler = LCMScheduler(prediction_type="sample", timestep_scaling=1e6)
    scheduler.set_timesteps(4)
    noise, x, clean = (drawn(1, 4, 6, 6, seed=seed) for seed in range(3))
    monkeypatch.setattr("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *a, **o: noise)
    expected = scheduler.step(clean, scheduler.timesteps[0], x).prev_sample
    alphas = scheduler.alphas_cumprod[scheduler.timesteps.long()].sqrt().tolist()
    t, s = (Level(alpha, math.sqrt(1 - alpha**2), 0, 0) for alpha in alphas[:2])
    torch.testing.assert_close(SAMPLERS["lcm"].move(move(x, clean, t, s, noise)), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_noise_follows_the_level_and_ends_at_zero(name: str) -> None:
    """With the true clean latents; for flow matching from pure noise."""
    clean = drawn(1, 4, 128, 128)
    for t, s in pairwise(FLOW):
        x = t.alpha * clean + t.sigma * drawn(1, 4, 128, 128, seed=1)
        moved = SAMPLERS[name].move(move(x, clean, t, s, drawn(1, 4, 128, 128, seed=2)))
        assert float((moved - s.alpha * clean).std()) == pytest.approx(s.sigma, abs=0.01)


def test_each_step_has_its_own_noise() -> None:
    window = Size(40, 40).window
    fields = [NoiseField(0, 1, 4), *(NoiseField(0, 1, 4, Purpose.STEP, step) for step in range(3))]
    values = [field.read(window) for field in fields]
    assert all(not torch.equal(one, other) for one, other in pairwise(values))
    assert torch.equal(NoiseField(0, 1, 4, Purpose.STEP, 2).read(window), values[-1])
