"""How sure a number is: it is taken again without each prompt in turn (the jackknife; Tukey, 1958)."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 10
"""Prompts below which nothing is called significant."""
_FEWEST = 3
"""Prompts below which not even an interval is given."""
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error, and the number of prompts behind both; not numbers where they are not defined."""

    value: float
    error: float
    prompts: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % confidence interval."""
        return t_95(self.prompts - 1) * self.error if self.prompts > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval, by Student's distribution of n - 1 degrees of freedom."""
        return self.value - self.half_width, self.value + self.half_width

    @property
    def is_zero(self) -> bool:
        """Whether 0 is in the interval, or too little is known."""
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
    """The number without the pictures of each prompt in turn; not numbers where there are too few prompts.

    Pictures of one prompt are not independent, so they are left out together.
    """
    groups = list(dict.fromkeys(prompts))
    if len(groups) < _FEWEST:
        return np.full(len(groups), np.nan)
    pairs = list(zip(kept, prompts, strict=True))
    return np.array([value([item for item, prompt in pairs if prompt != group]) for group in groups])


def estimate(value: float, replicated: NDArray[np.float64]) -> Estimate:
    """A number with what it is without each prompt. Of a mean over equal groups the error is the usual one."""
    count = len(replicated)
    spread = np.square(replicated - replicated.mean()).sum()
    return Estimate(value, float(np.sqrt((count - 1) / count * spread)), count)


def difference(a: float, b: float, replicated_a: NDArray[np.float64], replicated_b: NDArray[np.float64]) -> Estimate:
    """How much a differs from b, where both were made of the same prompts and seeds, left out together (paired)."""
    return estimate(a - b, replicated_a - replicated_b)
