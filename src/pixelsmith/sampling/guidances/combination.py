"""The interface of guidances: how the estimates with the prompt and with the negative prompt are combined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level


@runtime_checkable
class Combination(Protocol):
    """Combines the estimates with the prompt and with the negative prompt, each patch independently."""

    def __call__(self, positive: Batch, negative: Batch, scale: float, x: Batch, level: Level) -> Batch:
        """``positive``, ``negative``: estimates x̂0 for the patches ``x``; all are (b, c, h, w). Returns x̂0."""
        ...


@dataclass(frozen=True)
class Guidance:
    """A combination by name; ``of_velocities``: whether it is for flow-matching models only."""

    name: str
    combine: Combination
    of_velocities: bool = False


def velocity_of(clean: Batch, x: Batch, level: Level) -> Batch:
    """``ε − x̂0``, the direction of flow matching."""
    return (x - level.alpha * clean) / level.sigma - clean


def clean_of(velocity: Batch, x: Batch, level: Level) -> Batch:
    """The clean estimate that corresponds to a velocity."""
    return (x - level.sigma * velocity) / (level.alpha + level.sigma)


def dot(a: Batch, b: Batch) -> Tensor:
    """The inner product of each patch, (b, 1, 1, 1)."""
    return (a * b).sum((1, 2, 3), keepdim=True)
