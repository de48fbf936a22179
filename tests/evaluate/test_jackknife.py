from __future__ import annotations

import numpy as np
import pytest

from pixelsmith.evaluate.bootstrap import Estimate, difference, draws, estimate, replicates


def mean(kept: object) -> float:
    return float(np.mean(kept))  # type: ignore[call-overload]


def test_the_error_of_a_mean_is_known() -> None:
    """The spread of the values over the root of their number."""
    values = np.random.default_rng(1).standard_normal(60)
    found = estimate(values.mean(), replicates(mean, list(values), draws(60, 2000)))
    assert found.error == pytest.approx(values.std() / np.sqrt(60), rel=0.05)
    assert found.interval == pytest.approx((found.value - 1.96 * found.error, found.value + 1.96 * found.error))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        values = rng.standard_normal(40) + 5
        low, high = estimate(values.mean(), replicates(mean, list(values), draws(40, 200))).interval
        held += low <= 5 <= high
    assert 180 <= held <= 198


def test_pairs_are_told_apart_where_sets_are_not() -> None:
    """Pictures vary far more than the two variants do: only the paired difference sees that one is always better."""
    rng = np.random.default_rng(3)
    a = 10 * rng.standard_normal(20)
    b = a + 0.5 + 0.1 * rng.standard_normal(20)
    drawn = draws(20, 500)
    first, second = (replicates(mean, list(x), drawn) for x in (a, b))
    assert estimate(a.mean(), first).interval[1] > estimate(b.mean(), second).interval[0]
    assert not difference(a.mean(), b.mean(), first, second).is_zero
    assert difference(a.mean(), a.mean(), first, first).is_zero


def test_nothing_is_significant_where_nothing_is_known() -> None:
    assert Estimate(float("nan"), float("nan")).is_zero
