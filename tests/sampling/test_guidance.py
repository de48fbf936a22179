from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from pixelsmith.config.method import Method
from pixelsmith.config.recommended import Recommended
from pixelsmith.families.shared.packing import pack
from pixelsmith.geometry import Window
from pixelsmith.sampling.guidance import Away, EpsilonScaled, Guided
from pixelsmith.sampling.guidances import GUIDANCES, Combination
from pixelsmith.sampling.guidances.apg import APG_LENGTH
from pixelsmith.sampling.schedule import Level, step

LEVEL = Level(0.6, 0.8, 500, 0.5)
FLOW = Level(0.4, 0.6, 600, 0.5)
WINDOWS = [Window(0, 0, 8, 8)] * 2


@dataclass
class Constant:
    """A denoiser with a constant estimate that counts its calls."""

    estimate: Tensor
    calls: int = 0

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        self.calls += 1
        return self.estimate


def pair() -> tuple[Constant, Constant, Tensor]:
    generator = torch.Generator().manual_seed(0)
    positive, negative, x = torch.randn(3, 2, 4, 8, 8, generator=generator)
    return Constant(positive), Constant(negative), x


def guided_by(away: Constant, positive: Constant, x: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    return Guided(positive, [Away(away, scale, lambda _: True)], rescale)(x, LEVEL, WINDOWS)


def estimates() -> tuple[Tensor, Tensor, Tensor]:
    positive, negative, x = pair()
    return positive.estimate, negative.estimate, x


def test_guidance_extrapolates_from_the_negative_estimate() -> None:
    positive, negative, x = pair()
    guided = guided_by(negative, positive, x, 3.0)
    torch.testing.assert_close(guided, negative.estimate + 3 * (positive.estimate - negative.estimate))


def test_outside_the_interval_the_negative_prompt_is_not_evaluated() -> None:
    positive, negative, x = pair()
    method = Method(guidance_interval=(0.2, 0.5)).at(1, Recommended())
    guided = Guided(positive, [Away(negative, 3.0, method.guides_at)])
    assert torch.equal(guided(x, LEVEL, WINDOWS), positive.estimate)
    assert negative.calls == 0
    guided(x, Level(0.6, 0.8, 500, 0.2), WINDOWS)
    assert negative.calls == 1


@pytest.mark.parametrize("combination", [guidance.combine for guidance in GUIDANCES.values()])
def test_guidances_away_from_several_estimates_are_added(combination: Combination) -> None:
    """``n + s·(p − n) + k·(p − q)``, as in pipelines with perturbed attention."""
    positive, negative, x = pair()
    perturbed = Constant(torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)))
    aways = [Away(negative, 3.0, lambda _: True, combination), Away(perturbed, 1 + 2.5, lambda _: True)]
    found = Guided(positive, aways)(x, FLOW, WINDOWS)
    alone = combination(positive.estimate, negative.estimate, 3.0, x, FLOW)
    torch.testing.assert_close(found, alone + 2.5 * (positive.estimate - perturbed.estimate), atol=1e-4, rtol=1e-4)
    assert (positive.calls, negative.calls, perturbed.calls) == (1, 1, 1)


def test_each_guidance_has_its_own_interval() -> None:
    positive, negative, x = pair()
    perturbed = Constant(negative.estimate + 1)
    aways = [Away(negative, 3.0, lambda progress: progress < 0.5), Away(perturbed, 2.0, lambda progress: progress > 0)]
    guided = Guided(positive, aways)
    for progress, expected in ((0.0, (1, 0)), (0.2, (2, 1)), (0.7, (2, 2))):
        guided(x, Level(0.6, 0.8, 500, progress), WINDOWS)
        assert (negative.calls, perturbed.calls) == expected


def test_full_rescale_gives_each_patch_the_standard_deviation_of_the_positive() -> None:
    positive, negative, x = pair()
    guided = guided_by(negative, positive, x, 7.5, rescale=1.0)
    torch.testing.assert_close(guided.std((1, 2, 3)), positive.estimate.std((1, 2, 3)))


def test_at_scale_one_every_guidance_equals_the_prompts_estimate() -> None:
    """Except in the first step of CFG-Zero*, whose velocity is zero."""
    positive, negative, x = estimates()
    for combination in (guidance.combine for guidance in GUIDANCES.values()):
        torch.testing.assert_close(combination(positive, negative, 1.0, x, FLOW), positive, atol=1e-5, rtol=1e-5)


def test_norms_are_restored_for_every_token() -> None:
    positive, negative, x = estimates()
    guided = GUIDANCES["cfg-norm"].combine(positive, negative, 4.0, x, FLOW)
    found, expected = (pack((x - clean) / FLOW.sigma).norm(dim=-1) for clean in (guided, positive))
    torch.testing.assert_close(found, expected)
    plain = GUIDANCES["cfg"].combine(positive, negative, 4.0, x, FLOW)
    ours, theirs = (pack((x - clean) / FLOW.sigma) for clean in (guided, plain))
    torch.testing.assert_close(torch.cosine_similarity(ours, theirs, dim=-1), torch.ones(2, 16))


def test_norms_are_restored_at_odd_sizes() -> None:
    positive, negative, x = (value[..., :7, :5] for value in estimates())
    assert GUIDANCES["cfg-norm"].combine(positive, negative, 4.0, x, FLOW).shape == x.shape


def test_cfg_zero_scales_the_negative_velocity_and_skips_the_first_step() -> None:
    """The residual of the positive velocity is orthogonal to the scaled negative one."""
    positive, negative, x = estimates()
    zero = GUIDANCES["cfg-zero"].combine
    # At scale 0 the fitted velocity is left.
    velocity, fitted, without = (
        ((x - clean) / FLOW.sigma).flatten(1) for clean in (positive, zero(positive, negative, 0.0, x, FLOW), negative)
    )
    torch.testing.assert_close(((velocity - fitted) * without).sum(1), torch.zeros(2), atol=1e-3, rtol=0)
    first = Level(0.0, 1.0, 1000, 0.0)
    torch.testing.assert_close(zero(positive, negative, 4.0, x, first), x)
    # A stage that starts in the middle of the schedule has no step to lose.
    begun = Level(FLOW.alpha, FLOW.sigma, FLOW.timestep, 0.0)
    torch.testing.assert_close(zero(positive, negative, 4.0, x, begun), zero(positive, negative, 4.0, x, FLOW))


def test_norms_of_rows_are_restored() -> None:
    positive, negative, x = estimates()
    guided = GUIDANCES["cfg-norm-rows"].combine(positive, negative, 4.0, x, FLOW)
    found, expected = (((x - clean) / FLOW.sigma).norm(dim=-1) for clean in (guided, positive))
    torch.testing.assert_close(found, expected)


def test_projected_guidance_is_orthogonal_to_the_estimate_and_bounded() -> None:
    positive, negative, x = estimates()
    change = GUIDANCES["apg"].combine(positive, negative, 8.0, x, FLOW) - positive
    torch.testing.assert_close((change * positive).sum((1, 2, 3)), torch.zeros(2), atol=1e-3, rtol=0)
    far = GUIDANCES["apg"].combine(positive, negative * 1000, 8.0, x, FLOW) - positive
    assert (far.flatten(1).norm(dim=1) <= 7 * APG_LENGTH * 1.001).all()


def test_each_patch_is_guided_independently() -> None:
    positive, negative, x = estimates()
    for combination in (guidance.combine for guidance in GUIDANCES.values()):
        together = combination(positive, negative, 4.0, x, FLOW)
        alone = torch.cat([combination(positive[i, None], negative[i, None], 4.0, x[i, None], FLOW) for i in (0, 1)])
        torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("level", [LEVEL, FLOW])
def test_epsilon_scaling_divides_the_predicted_noise(level: Level) -> None:
    """Compared with the paper's equations: x̂0 and the direction of a DDIM step, both from ε / λ."""
    positive, _, x = pair()
    later = Level(0.9, 0.3, 250, 0.7)
    epsilon = (x - level.alpha * positive.estimate) / level.sigma / 1.05
    clean = (x - level.sigma * epsilon) / level.alpha
    scaled = EpsilonScaled(positive, 1.05)(x, level, WINDOWS)
    torch.testing.assert_close(scaled, clean)
    torch.testing.assert_close(step(x, scaled, level, later), later.alpha * clean + later.sigma * epsilon)


def test_epsilon_scaling_does_not_change_pure_noise() -> None:
    positive, _, x = pair()
    assert torch.equal(EpsilonScaled(positive, 1.05)(x, Level(0, 1, 999, 0), WINDOWS), positive.estimate)
