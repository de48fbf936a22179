"""How sure a number is: the set of pictures is drawn again and again from itself (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.96
"""Standard errors on each side of a number that hold the truth in 95 of 100 cases."""


@dataclass(frozen=True)
class Estimate:
    """A number and its standard error; not numbers where it is not defined."""

    value: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval.

        Around the number with the bootstrap's standard error, and not the bootstrap's own percentiles: drawing pictures
        twice makes a set less varied, and so distances of sets come out too large on average.
        """
        return self.value - NORMAL_95 * self.error, self.value + NORMAL_95 * self.error

    @property
    def is_zero(self) -> bool:
        """Whether 0 is in the interval, or nothing is known."""
        low, high = self.interval
        return not (low > 0 or high < 0)


def draws(pictures: int, resamples: int) -> NDArray[np.int64]:
    """Which pictures each resample consists of (resamples, pictures), always the same for the same numbers."""
    return np.random.default_rng(0).integers(pictures, size=(resamples, pictures))


def replicates(
    value: Callable[[Sequence[Any]], float], kept: Sequence[Any], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The number for each resample."""
    return np.array([value([kept[i] for i in indices]) for indices in drawn])


def estimate(value: float, replicated: NDArray[np.float64]) -> Estimate:
    """A number with what its resamples say of it."""
    return Estimate(value, float(np.std(replicated, ddof=1)))


def difference(a: float, b: float, replicated_a: NDArray[np.float64], replicated_b: NDArray[np.float64]) -> Estimate:
    """How much a differs from b, where both were made of the same prompts and seeds and are drawn together (paired)."""
    return Estimate(a - b, float(np.std(replicated_a - replicated_b, ddof=1)))
