"""The workers of a picture as one device: its name, dtype and rates, which plans and settings use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import cast

import torch

from pixelsmith.config.compute import DtypeName
from pixelsmith.planning.forecast import Rates

SPREAD = ("upsample", "encode", "double", "control", "denoise", "decode")
"""Phases that workers share."""


@dataclass(frozen=True)
class Team:
    """Some workers.

    ``kinds``: the kinds of their devices; ``processors``: the processors' names; ``rates``: those of each worker, if
    known; ``dtype``: the one in which all of them compute; ``memories``: the bytes that each worker can use, if known.
    """

    kinds: tuple[str, ...]
    processors: tuple[str, ...]
    dtype: DtypeName
    rates: tuple[Rates | None, ...] = ()
    memories: tuple[int | None, ...] = ()

    @property
    def device(self) -> str:
        """The kinds of their devices, for messages. The fastest, whose batch size is used, comes first."""
        return " and ".join(sorted(set(self.kinds), key=lambda kind: (kind == "cpu", kind)))

    @property
    def processor(self) -> str:
        return ", ".join(sorted(set(self.processors)))

    @property
    def name(self) -> str:
        """The name under which their rates are saved, such as ``cuda x4``."""
        return " and ".join(f"{kind} x{count}" for kind, count in sorted(Counter(self.kinds).items()))

    @property
    def rooms(self) -> Mapping[str, int | None]:
        """The least memory in bytes that a worker can use, by the kind of its device, as far as it is known."""
        known = [(kind, room) for kind, room in zip(self.kinds, self.memories, strict=False) if room is not None]
        return {kind: min(room for other, room in known if other == kind) for kind, _ in known}

    @property
    def together(self) -> Rates | None:
        """Their combined rates: speeds are added. A worker without known rates counts as the others do."""
        return together(self.rates)


def name_of(dtype: torch.dtype) -> DtypeName:
    """The name of a dtype in a request."""
    return cast("DtypeName", str(dtype).removeprefix("torch."))


def common(dtypes: Iterable[DtypeName]) -> DtypeName:
    """The dtype in which all workers compute; if they would choose different ones, one that all support."""
    found = set(dtypes)
    return found.pop() if len(found) == 1 else "float32"


def together(rates: Sequence[Rates | None]) -> Rates | None:
    """The combined rates of workers that share the work; ``None`` if none are known."""
    known = [rate for rate in rates if rate is not None]
    if not known:
        return None
    means = {phase: fmean(1 / rate.of(phase) for rate in known) for phase in SPREAD}
    return replace(known[0], **{phase: 1 / (speed * len(rates)) for phase, speed in means.items()})
