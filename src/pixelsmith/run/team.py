"""What is known of the workers of a picture before they begin: what they are, and how fast they are together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

import torch

from pixelsmith.config.compute import DtypeName
from pixelsmith.planning.forecast import Rates

SPREAD = ("encode", "denoise", "decode")
"""Phases that workers share."""


@dataclass(frozen=True)
class Team:
    """Some workers.

    ``kinds``: of their devices; ``processors``: what computes there; ``rates``: of each, as far as they are known;
    ``dtype``: what ``auto`` means for all of them.
    """

    kinds: tuple[str, ...]
    processors: tuple[str, ...]
    dtype: DtypeName
    rates: tuple[Rates | None, ...] = ()

    @property
    def device(self) -> str:
        """The kinds of their devices in words; the fastest, for which groups are made, comes first."""
        return " and ".join(sorted(set(self.kinds), key=lambda kind: (kind == "cpu", kind)))

    @property
    def processor(self) -> str:
        return ", ".join(sorted(set(self.processors)))

    @property
    def name(self) -> str:
        """What they are together, for what is remembered of them: ``cuda x4``."""
        return " and ".join(f"{kind} x{count}" for kind, count in sorted(Counter(self.kinds).items()))

    @property
    def together(self) -> Rates | None:
        """Their rates together: speeds add up. A worker of which nothing is known is taken to be as the others are."""
        return together(self.rates)


def name_of(dtype: torch.dtype) -> DtypeName:
    """What a dtype is called in a request."""
    return cast("DtypeName", str(dtype).removeprefix("torch."))


def common(dtypes: Iterable[DtypeName]) -> DtypeName:
    """What all compute in: where they would differ, what all have."""
    found = set(dtypes)
    return found.pop() if len(found) == 1 else "float32"


def together(rates: Sequence[Rates | None]) -> Rates | None:
    """The rates of workers that share the work; ``None`` where nothing is known of any."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    means = {phase: fmean(1 / rate.of(phase) for rate in known) for phase in SPREAD}
    return replace(known[0], **{phase: 1 / (speed * len(rates)) for phase, speed in means.items()})
