from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.sampling.schedule import CLEAN, Level, Schedule, extrapolated, noised, step

shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))


def levels_of(scheduler: Any) -> list[Level]:
    """Levels from a variance-preserving scheduler of diffusers after ``set_timesteps``."""
    found = []
    for t in scheduler.timesteps.tolist():
        square = float(scheduler.alphas_cumprod[t])
        found.append(Level(math.sqrt(square), math.sqrt(1 - square), t, 0.0))
    return found


@given(shape=shapes, steps=st.sampled_from([4, 10, 25]), seed=st.integers(0, 100))
def test_step_equals_ddim(shape: tuple[int, ...], steps: int, seed: int) -> None:
    scheduler = DDIMScheduler(clip_sample=False, prediction_type="sample", set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    levels = [*levels_of(scheduler), CLEAN]
    generator = torch.Generator().manual_seed(seed)
    x, clean = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    i = seed % steps
    expected = scheduler.step(clean, int(scheduler.timesteps[i]), x).prev_sample
    torch.testing.assert_close(step(x, clean, levels[i], levels[i + 1]), expected, atol=1e-5, rtol=1e-5)


@given(shape=shapes, steps=st.integers(2, 30), seed=st.integers(0, 100))
def test_step_equals_flow_matching_euler(shape: tuple[int, ...], steps: int, seed: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.tolist()
    levels = [Level(1 - sigma, sigma, sigma * 1000, 0.0) for sigma in sigmas]
    generator = torch.Generator().manual_seed(seed)
    x, velocity = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    i = seed % steps
    scheduler.set_begin_index(i)
    expected = scheduler.step(velocity, scheduler.timesteps[i], x).prev_sample
    clean = x - sigmas[i] * velocity
    torch.testing.assert_close(step(x, clean, levels[i], levels[i + 1]), expected, atol=1e-5, rtol=1e-5)


def test_second_order_equals_dpm_solver() -> None:
    """A whole trajectory: the network's output depends on x, so an error in any step has an effect."""
    steps = 12
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="sample", solver_order=2, algorithm_type="dpmsolver++", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    levels = [*levels_of(scheduler), CLEAN]
    x = expected = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    previous = None
    for i, t in enumerate(scheduler.timesteps):
        expected = scheduler.step(torch.tanh(expected), t, expected).prev_sample
        clean = torch.tanh(x)
        direction = clean
        if previous is not None:
            direction = extrapolated(clean, previous, levels[i - 1], levels[i], levels[i + 1])
        x, previous = step(x, direction, levels[i], levels[i + 1]), clean
    torch.testing.assert_close(x, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("t", [Level(0.6, 0.8, 500, 0.5), Level(0.3, 0.7, 700, 0.3)])
def test_a_step_with_the_true_latents_gives_the_lower_level(t: Level) -> None:
    """With the true clean latents a step stays on the line α·z + σ·ε, for both families."""
    z, noise = torch.randn(2, 1, 4, 5, 5).unbind()
    s = Level(0.9, 0.3, 100, 0.9)
    torch.testing.assert_close(step(noised(z, noise, t), z, t, s), noised(z, noise, s))


def test_steps_from_pure_noise_and_to_the_clean_end_are_first_order() -> None:
    clean, previous = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    noisiest, middle, low = Level(0.0, 1.0, 999, 0.0), Level(0.5, 0.8, 500, 0.3), Level(0.9, 0.3, 100, 0.9)
    assert torch.equal(extrapolated(clean, previous, noisiest, middle, low), clean)
    assert torch.equal(extrapolated(clean, previous, middle, low, CLEAN), clean)
    assert not torch.equal(extrapolated(clean, previous, middle, low, Level(0.99, 0.1, 10, 0.95)), clean)


def test_the_last_steps_of_a_schedule_are_a_schedule() -> None:
    levels = tuple(Level(i / 10, (1 - i**2 / 100) ** 0.5, 1000 - 100 * i, i / 10) for i in range(11))
    last = Schedule(levels).last(4)
    assert last.steps == 4
    assert [level.timestep for level in last.levels] == [400, 300, 200, 100, 0]
    assert [level.progress for level in last.levels] == [0, 0.25, 0.5, 0.75, 1]
    assert Schedule(levels).last(10).levels == levels
