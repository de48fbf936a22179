"""Standard errors by the jackknife (Tukey, 1958): a number is computed again without each prompt in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 10
"""The number of prompts below which nothing is called significant."""
_FEWEST = 3
"""The number of prompts below which no interval is given."""
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error (not a number if undefined), and the number of prompts."""

    value: float
    error: float
    prompts: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % confidence interval."""
        return t_95(self.prompts - 1) * self.error if self.prompts > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval, by Student's distribution with n - 1 degrees of freedom."""
        return self.value - self.half_width, self.value + self.half_width

    @property
    def is_zero(self) -> bool:
        """Whether 0 is in the interval, or there are too few prompts."""
        low, high = self.interval
        return self.prompts < FEW or not (low > 0 or high < 0)


def t_95(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution, within 1 % from two degrees of freedom on.

    By Fisher and Cornish's series (Abramowitz and Stegun, 26.7.5).
    """
    z = NORMAL_95
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in zip((1.0, 2.0, 3.0, 4.0), terms, strict=True))


def without_each(
    value: Callable[[Sequence[Any]], float], kept: Sequence[Any], prompts: Sequence[Hashable]
) -> NDArray[np.float64]:
    """The number without the pictures of each prompt in turn; not numbers if there are too few prompts.

    Pictures of one prompt are not independent, so they are left out together.
    """
    groups = list(dict.fromkeys(prompts))
    if len(groups) < _FEWEST:
        return np.full(len(groups), np.nan)
    pairs = list(zip(kept, prompts, strict=True))
    return np.array([value([item for item, prompt in pairs if prompt != group]) for group in groups])


def estimate(value: float, replicated: NDArray[np.float64]) -> Estimate:
    """The estimate from a number and its jackknife values. For a mean over equal groups it is the usual error."""
    count = len(replicated)
    spread = np.square(replicated - replicated.mean()).sum()
    return Estimate(value, float(np.sqrt((count - 1) / count * spread)), count)


def difference(a: float, b: float, replicated_a: NDArray[np.float64], replicated_b: NDArray[np.float64]) -> Estimate:
    """The paired difference of a and b, which have the same prompts and seeds."""
    return estimate(a - b, replicated_a - replicated_b)
