from __future__ import annotations

import numpy as np
import pytest

from pixelsmith.evaluate.distances import kernel_distance
from pixelsmith.evaluate.jackknife import FEW, Estimate, difference, estimate, t_95, without_each


def mean(kept: object) -> float:
    return float(np.mean(kept))  # type: ignore[call-overload]


@pytest.mark.parametrize(("freedom", "published"), [(2, 4.303), (5, 2.571), (11, 2.201), (23, 2.069), (120, 1.980)])
def test_quantiles_equal_published_tables(freedom: int, published: float) -> None:
    assert t_95(freedom) == pytest.approx(published, rel=0.01)


def test_the_standard_error_of_a_mean_equals_the_usual_formula() -> None:
    """The standard deviation over the root of the number; for two values per prompt, that of the prompts' means."""
    values = np.random.default_rng(1).standard_normal(60)
    alone = estimate(values.mean(), without_each(mean, list(values), range(60)))
    assert alone.error == pytest.approx(values.std(ddof=1) / np.sqrt(60))
    pairs = estimate(values.mean(), without_each(mean, list(values), [i % 30 for i in range(60)]))
    assert pairs.error == pytest.approx(values.reshape(2, 30).mean(0).std(ddof=1) / np.sqrt(30))
    assert (alone.prompts, pairs.prompts) == (60, 30)


def test_intervals_cover_the_true_value_as_often_as_claimed() -> None:
    """12 prompts with two seeds each, whose values have a correlation of 0.5: 95 of 100."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(400):
        values = (rng.standard_normal(12)[:, None] + rng.standard_normal((12, 2))).ravel() / np.sqrt(2) + 5
        prompts = np.repeat(range(12), 2).tolist()
        low, high = estimate(values.mean(), without_each(mean, list(values), prompts)).interval
        held += low <= 5 <= high
    assert 368 <= held <= 392


def test_bootstrap_intervals_of_twelve_prompts_are_too_narrow() -> None:
    """The reason why intervals are not those of 95 % of resampled means."""
    rng, held = np.random.default_rng(4), np.zeros(2)
    for _ in range(600):
        values = rng.standard_normal(12)
        ends = np.quantile(values[rng.integers(0, 12, (400, 12))].mean(1), (0.025, 0.975))
        low, high = estimate(values.mean(), without_each(mean, list(values), range(12))).interval
        held += (ends[0] <= 0 <= ends[1], low <= 0 <= high)
    assert held[0] / 600 < 0.93 < held[1] / 600


def test_the_standard_error_of_a_set_distance_equals_its_spread_over_sets() -> None:
    """The standard deviation of the distance over many sets of 24."""
    rng = np.random.default_rng(3)
    real = rng.standard_normal((400, 16))

    def distance(kept: object) -> float:
        return kernel_distance(np.asarray(kept), real)

    sets = [rng.standard_normal((24, 16)) + 0.3 for _ in range(150)]
    spread = np.std([distance(rows) for rows in sets], ddof=1)
    errors = [estimate(0, without_each(distance, list(rows), range(24))).error for rows in sets[:50]]
    assert np.mean(errors) == pytest.approx(spread, rel=0.25)


def test_paired_differences_are_significant_where_sets_overlap() -> None:
    """Pictures vary far more than the two variants do: only the paired difference shows that one is always better."""
    rng = np.random.default_rng(3)
    a = 10 * rng.standard_normal(20)
    b = a + 0.5 + 0.1 * rng.standard_normal(20)
    first, second = (without_each(mean, list(x), range(20)) for x in (a, b))
    assert estimate(a.mean(), first).interval[1] > estimate(b.mean(), second).interval[0]
    assert not difference(a.mean(), b.mean(), first, second).is_zero


def test_too_few_values_are_not_significant() -> None:
    assert Estimate(float("nan"), float("nan"), 40).is_zero
    assert not Estimate(5, 0.1, FEW).is_zero
    assert Estimate(5, 0.0, FEW - 1).is_zero
    one = estimate(5, without_each(mean, [5.0, 5.0], ["a", "a"]))
    assert one.is_zero
    assert np.isnan(one.error)
