"""DemoFusion and MultiDiffusion as loops over whole canvases, as in the papers, compared with the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pixelsmith.engine.denoise import Denoising, Guide
from pixelsmith.engine.dilated import Dilated, blurred
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.merging import SkipResidual, Unmerged
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.patches import dilation
from pixelsmith.sampling.schedule import CLEAN, Level, Schedule, step
from pixelsmith.sampling.slider import cosine_weights
from tests.engine.test_denoise import CHANNELS, CPU, SCHEDULE, Smoothing, guide_latents, run
from tests.kept import KeptSteps

SIZE, PATCH = Size(48, 33), Size(16, 16)


def canvas(size: Size = SIZE) -> Tensor:
    return torch.randn(CHANNELS, size.height, size.width, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize(("size", "expected"), [(Size(48, 32), 3), (Size(16, 16), 1), (Size(17, 16), 2)])
def test_the_dilation_is_the_smallest_that_fits_a_patch(size: Size, expected: int) -> None:
    assert dilation(size, PATCH) == expected


def test_dilated_samples_are_strided_slices_of_the_canvas() -> None:
    """Compared with slicing, at a level without blur; sides that s does not divide are extended."""
    model, level, x = Smoothing(), replace(CLEAN, sigma=0.1), canvas(Size(45, 31))
    padded = torch.nn.functional.pad(x[None], (0, 3, 0, 5), mode="replicate")[0]
    expected = torch.empty_like(padded)
    for row in range(3):
        for column in range(3):
            sample = padded[None, :, row::3, column::3]
            expected[:, row::3, column::3] = model(sample, level, [])[0]
    found = Dilated(model, 3, 4).estimate(x, level, batch_size=2)
    torch.testing.assert_close(found, expected[:, :31, :45], atol=1e-6, rtol=0)
    assert {window for _, window in model.asked} == {Window(0, 0, 31, 45)}


def test_the_blur_is_a_gaussian() -> None:
    """An impulse becomes the kernel; a constant canvas is unchanged, also at its edges."""
    dot = torch.zeros(1, 1, 21, 21)
    dot[..., 10, 10] = 1
    squares = (torch.arange(21) - 10.0) ** 2
    bell = torch.exp(-(squares[:, None] + squares) / (2 * 1.5**2))
    torch.testing.assert_close(blurred(dot, 1.5, 8)[0, 0], bell / bell.sum(), atol=1e-6, rtol=0)
    plain = torch.full((1, 2, 9, 7), 3.0)
    torch.testing.assert_close(blurred(plain, 1.0, 4), plain)


def demofusion_as_written(model: Smoothing, noise: Tensor, guide: Tensor, coverage: ShiftedGrid) -> Tensor:
    """The paper's loop over whole canvases: both paths take their own step, and the results are mixed (eq. 4 to 9). As
    in the authors' code, the blurred canvas has the mean and the standard deviation of the original one, and the noise
    estimated in its samples is subtracted from samples of the canvas itself.
    """
    levels, steps = SCHEDULE.levels, SCHEDULE.steps
    x = levels[0].alpha * guide + levels[0].sigma * noise
    for i in range(steps):
        t, s = levels[i], levels[i + 1]
        cosine = (1 + math.cos(math.pi * i / steps)) / 2
        x = cosine**3 * (t.alpha * guide + t.sigma * noise) + (1 - cosine**3) * x
        local, blurry, spread = torch.zeros_like(x), blurred(x[None], 0.99 * cosine + 0.01, 2)[0], torch.empty_like(x)
        blurry = (blurry - blurry.mean()) / blurry.std() * x.std() + x.mean()
        for patch in coverage.patches(i):
            inside = x[(..., *patch.window.slices)]
            moved = step(inside, model(inside[None], t, [])[0], t, s)
            local[(..., *patch.window.slices)] += torch.from_numpy(patch.weights) * moved
        for row in range(3):
            for column in range(3):
                sample = x[:, row::3, column::3]
                seen = blurry[:, row::3, column::3]
                found = (seen - t.alpha * model(seen[None], t, [])[0]) / t.sigma
                spread[:, row::3, column::3] = s.alpha * (sample - t.sigma * found) / t.alpha + s.sigma * found
        x = cosine * spread + (1 - cosine) * local
    return x


@pytest.mark.parametrize("batch_size", [1, 5])
def test_demofusion_equals_the_papers_loop(batch_size: int) -> None:
    model = Smoothing()
    schedule = Schedule(tuple(replace(level, progress=i / SCHEDULE.steps) for i, level in enumerate(SCHEDULE.levels)))
    coverage = ShiftedGrid(SIZE, PATCH, 8, seed=3, stage=1)
    guide, noise = guide_latents(SIZE), NoiseField(3, 1, CHANNELS)
    job = Denoising(
        model,
        schedule,
        coverage,
        noise,
        seed=3,
        stage=1,
        guide=Guide(guide, SkipResidual(cosine_weights(schedule.steps, 3))),
        dilated=Dilated(model, 3, 1),
    )
    expected = demofusion_as_written(model, noise.read(SIZE.window), guide.values, coverage)
    torch.testing.assert_close(run(job, SIZE, batch_size), expected, atol=1e-5, rtol=0)


def test_a_run_with_dilated_sampling_resumes_after_an_interruption() -> None:
    model = Smoothing()
    guide = Guide(guide_latents(SIZE), SkipResidual(cosine_weights(SCHEDULE.steps, 3)))
    job = Denoising(
        model, SCHEDULE, ShiftedGrid(SIZE, PATCH, 8, 3, 1), NoiseField(3, 1, CHANNELS), 3, 1, guide,
        dilated=Dilated(model, 3, 1),
    )  # fmt: skip
    expected, kept = run(job, SIZE), KeptSteps(CHANNELS)

    def stop(i: int, done: int, total: int) -> None:
        if i == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(kept, 4, CPU, stop)
    assert torch.equal(job.run(kept, 4, CPU).read(SIZE.window), expected)


def test_multidiffusion_is_the_weighted_mean_of_its_patches() -> None:
    """MultiDiffusion's closed form (arXiv 2302.08113, equation 5): the sum of W·F(patch), divided by the sum of W."""
    model, t, s = Smoothing(), SCHEDULE.levels[1], SCHEDULE.levels[2]
    schedule, coverage = Schedule((t, s)), ShiftedGrid(SIZE, PATCH, 8, 3, 1)
    guide, noise = guide_latents(SIZE), NoiseField(3, 1, CHANNELS)
    start = t.alpha * guide.values + t.sigma * noise.read(SIZE.window)
    total, weights = torch.zeros_like(start), torch.zeros(SIZE.height, SIZE.width)
    for patch in coverage.patches(0):
        inside = start[(..., *patch.window.slices)]
        weight = torch.from_numpy(patch.weights)
        total[(..., *patch.window.slices)] += weight * step(inside, model(inside[None], t, [])[0], t, s)
        weights[patch.window.slices] += weight
    job = Denoising(model, schedule, coverage, noise, 3, 1, Guide(guide, Unmerged()))
    torch.testing.assert_close(run(job, SIZE), total / weights, atol=1e-5, rtol=0)


def test_levels_reach_the_network_unchanged() -> None:
    asked: list[Level] = []

    def model(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        asked.append(level)
        return x

    Dilated(model, 2, 1).estimate(canvas(), SCHEDULE.levels[1], 4)
    assert asked == [SCHEDULE.levels[1]]


def test_blurred_samples_keep_the_noise_level() -> None:
    """A blur of one latent reduces noise of standard deviation 1 to about 0.3, but the network is conditioned on 1."""
    seen: list[Tensor] = []

    def model(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        seen.append(x)
        return x

    x = canvas()
    Dilated(model, 3, 1).estimate(x, SCHEDULE.levels[0], 16)
    assert seen[0].std() == pytest.approx(float(x.std()), rel=0.02)


def test_at_zero_snr_the_estimate_is_the_networks() -> None:
    """At zero terminal SNR the noise contains no information about x̂0."""
    level = replace(SCHEDULE.levels[0], alpha=0.0)
    found = Dilated(lambda x, level, windows: torch.full_like(x, 0.25), 3, 1).estimate(canvas(), level, 4)
    torch.testing.assert_close(found, torch.full_like(found, 0.25))
