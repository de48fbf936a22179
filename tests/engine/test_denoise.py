"""The engine with analytic denoisers, whose results are known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.engine import Serial, Work
from pixelsmith.engine.denoise import Denoising, Guide
from pixelsmith.engine.executor import OnDone
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.fusion import FUSIONS
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.merging import Fused, Unmerged
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.scattered import COVERAGES, Scattered
from pixelsmith.sampling.schedule import CLEAN, Level, Schedule, step
from pixelsmith.sampling.slider import guide_weights
from tests.kept import KeptSteps

CPU = torch.device("cpu")
CHANNELS = 3
SCHEDULE = Schedule(
    (*(Level(a, (1 - a * a) ** 0.5, 1000 * (1 - a), i / 5) for i, a in enumerate((0.1, 0.3, 0.5, 0.8, 0.95))), CLEAN)
)


@dataclass
class Smoothing:
    """An estimate that depends on the whole patch and on the level, as a network's does; it records its calls."""

    asked: list[tuple[Level, Window]] = field(default_factory=list)

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        self.asked += [(level, window) for window in windows]
        return torch.tanh(x - 0.5 * x.mean((2, 3), keepdim=True)) * level.alpha


@dataclass(frozen=True)
class Backwards:
    """A coverage whose patches are in the opposite order in each step."""

    forwards: Any

    def patches(self, step: int) -> Scattered:
        tiling = self.forwards.patches(step)
        return Scattered(tiling.canvas, reversed(tiling))

    def count(self, step: int) -> int:
        return int(self.forwards.count(step))


def guide_latents(size: Size) -> Array:
    values = torch.randn(CHANNELS, size.height, size.width, generator=torch.Generator().manual_seed(9))
    return Array(values)


def denoising(size: Size, name: str = "grid", slider: float = 0.6, **changes: Any) -> Denoising:
    guide = Guide(guide_latents(size), Fused(guide_weights(SCHEDULE.steps, slider)))
    patch = Size(min(16, size.width), min(16, size.height))
    made = Denoising(
        Smoothing(),
        SCHEDULE,
        COVERAGES[name](size, patch, 2, seed=3, stage=1),
        NoiseField(3, 1, CHANNELS),
        seed=3,
        stage=1,
        guide=guide,
    )
    return replace(made, **changes)


def run(job: Denoising, size: Size, batch_size: int = 4) -> Tensor:
    return job.run(KeptSteps(job.channels), batch_size, CPU).read(size.window)


@pytest.mark.parametrize("coverage", COVERAGES)
@pytest.mark.parametrize("rule", SAMPLERS)
def test_batch_size_and_order_of_patches_do_not_change_the_latents(coverage: str, rule: str) -> None:
    size = Size(45, 38)
    job = denoising(size, coverage, rule=SAMPLERS[rule])
    expected = run(job, size, batch_size=1)
    torch.testing.assert_close(run(job, size, batch_size=7), expected, atol=1e-5, rtol=0)
    backwards = replace(job, coverage=Backwards(job.coverage))
    torch.testing.assert_close(run(backwards, size), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("even", "expected"), [(False, [8, 1]), (True, [4, 5])])
def test_batches_are_even_if_the_executor_says_so(even: bool, expected: list[int]) -> None:
    """An executor of several GPUs has the batches of one, whatever the host of the run is."""

    class Watching(Serial):
        def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
            groups = list(work.groups)
            assert [len(group) for group in groups] == expected
            super().run(replace(work, groups=groups), on_done)

    executor, size = Watching(), Size(30, 30)
    executor.even = even
    job = denoising(size)
    job.run(KeptSteps(job.channels), 8, CPU, executor=executor)


@given(width=st.integers(4, 40), height=st.integers(4, 40), slider=st.floats(0, 1))
def test_every_shape_and_slider_gives_finite_and_repeatable_latents(width: int, height: int, slider: float) -> None:
    size = Size(width, height)
    latents = run(denoising(size, slider=slider), size)
    assert latents.isfinite().all()
    assert torch.equal(run(denoising(size, slider=slider), size), latents)


def test_all_patches_of_a_step_read_the_canvas_before_the_step() -> None:
    """For a denoiser that returns its input, a step equals the sampler's step on the whole canvas, at any overlap."""
    size = Size(40, 40)
    schedule = Schedule((SCHEDULE.levels[1], SCHEDULE.levels[2]))
    job = denoising(size, guide=None, schedule=schedule, denoiser=lambda x, level, windows: x)
    x = NoiseField(3, 1, CHANNELS).read(size.window)
    torch.testing.assert_close(run(job, size), step(x, x, *schedule.levels))


def test_one_patch_without_a_guide_is_plain_sampling() -> None:
    size, model = Size(16, 16), Smoothing()
    x = NoiseField(3, 0, CHANNELS).read(size.window)[None]
    for t, s in zip(SCHEDULE.levels, SCHEDULE.levels[1:], strict=False):
        x = step(x, model(x, t, []), t, s)
    job = denoising(
        size, guide=None, stage=0, noise=NoiseField(3, 0, CHANNELS), coverage=ShiftedGrid(size, size, 0, 3, 0)
    )
    torch.testing.assert_close(run(job, size), x[0])


def test_slider_zero_uses_the_guide_for_the_first_canvas_only() -> None:
    """Neither fusion nor the chess mask is used."""
    size = Size(30, 30)
    plain = run(denoising(size, slider=0.0), size)
    guide = Guide(guide_latents(size), Unmerged())
    assert torch.equal(run(denoising(size, guide=guide), size), plain)


def test_the_merge_guide_returns_the_guide_for_an_exact_network() -> None:
    """Merge "guide", all steps guided, and a network that returns the guide: the result is the guide."""
    size = Size(30, 22)
    guide = Guide(guide_latents(size), Fused(guide_weights(SCHEDULE.steps, 1.0), FUSIONS["guide"]))

    def knows(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        return torch.stack([guide.latents.read(window) for window in windows])

    latents = run(denoising(size, guide=guide, denoiser=knows), size)
    torch.testing.assert_close(latents, guide.latents.read(size.window), atol=1e-5, rtol=0)


def test_the_chess_mask_replaces_half_of_the_pixels_by_the_guide() -> None:
    """A guided step before another guided one: half of the pixels equal the guide at that level."""
    size = Size(16, 16)
    schedule = Schedule(SCHEDULE.levels[:2])
    whole = ShiftedGrid(size, size, 0, 3, 1)
    level, noise = SCHEDULE.levels[1], NoiseField(3, 1, CHANNELS).read(size.window)
    latents = guide_latents(size)
    expected = level.alpha * latents.values + level.sigma * noise

    def share(masked: bool) -> float:
        job = denoising(
            size, schedule=schedule, coverage=whole, guide=Guide(latents, Fused((1.0, 1.0), chess_mask=masked))
        )
        two_steps = replace(job, schedule=Schedule(SCHEDULE.levels[:3]))
        kept = KeptSteps(CHANNELS, forget=False)
        two_steps.run(kept, 1, CPU)
        first = kept.open(1, whole.patches(0)).read(size.window)
        return (first == expected).float().mean().item()

    assert share(masked=True) == 0.5
    assert share(masked=False) == 0.0


def test_the_network_is_called_once_per_patch_and_step() -> None:
    size, model = Size(40, 40), Smoothing()
    job = denoising(size, denoiser=model)
    run(job, size)
    assert len(model.asked) == sum(job.coverage.count(i) for i in range(SCHEDULE.steps))


def test_progress_counts_up_to_the_patches_of_each_step() -> None:
    size, heard = Size(40, 40), []
    job = denoising(size)
    job.run(KeptSteps(CHANNELS), 4, CPU, lambda *counts: heard.append(counts))
    for i in range(SCHEDULE.steps):
        mine = [(done, total) for step, done, total in heard if step == i]
        assert mine[-1] == (job.coverage.count(i),) * 2
        assert [done for done, _ in mine] == sorted(done for done, _ in mine)


@pytest.mark.parametrize("rule", SAMPLERS)
@pytest.mark.parametrize("done", [0, 1, 7, 12, 20, 29])
def test_an_interrupted_run_resumes_to_the_same_latents(done: int, rule: str) -> None:
    """Interrupted after some batches: finished patches are not computed again."""
    size = Size(45, 38)
    job = denoising(size, rule=SAMPLERS[rule])
    whole = KeptSteps(job.channels)
    expected = job.run(whole, 2, CPU).read(size.window)
    kept, model = KeptSteps(whole.channels), Smoothing()

    def stop(step: int, patches: int, total: int) -> None:
        stop.left -= 1  # type: ignore[attr-defined]
        if stop.left < 0:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    stop.left = done  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        job.run(kept, 2, CPU, stop)
    resumed = replace(job, denoiser=model).run(kept, 2, CPU).read(size.window)
    assert torch.equal(resumed, expected)
    in_all = sum(job.coverage.count(i) for i in range(SCHEDULE.steps))
    assert in_all - 2 * (done + 1) <= len(model.asked) <= in_all - 2 * done


def test_the_canvas_of_a_step_is_deleted_after_the_next_step() -> None:
    size, kept = Size(45, 38), KeptSteps(CHANNELS)
    denoising(size).run(kept, 4, CPU)
    assert [step for step in range(9) if step in kept] == [SCHEDULE.steps]
