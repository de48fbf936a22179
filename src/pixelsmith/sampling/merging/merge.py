"""What a guide may do to the patches of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from pixelsmith.geometry import Window
from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, noised


@dataclass(frozen=True)
class GuideAt:
    """The guide where some patches lie, at one step; read when something asks for it.

    - ``seed``, ``stage``: what randomness is keyed by.
    - ``step``: counted from 0; it goes from level ``t`` to level ``s``.
    - ``windows``: where the patches lie, in latents.
    - ``read_clean``, ``read_noise``: read z_g and ε there, (b, c, h, w).
    - ``read_map``: reads a map (1, h, w) of the canvas there, (b, 1, h, w), on the host.
    """

    seed: int
    stage: int
    step: int
    t: Level
    s: Level
    windows: Sequence[Window]
    read_clean: Callable[[], Batch]
    read_noise: Callable[[], Batch]
    read_map: Callable[[Readable], Batch]

    @cached_property
    def clean(self) -> Batch:
        """z_g: the encoded picture of the stage below, (b, c, h, w)."""
        return self.read_clean()

    @cached_property
    def _noise(self) -> Batch:
        return self.read_noise()

    def at(self, level: Level) -> Batch:
        """The guide at a noise level: ``α·z_g + σ·ε`` (paper, section 3.2)."""
        return noised(self.clean, self._noise, level)


@dataclass(frozen=True)
class Needs:
    """What patches need of the guide: its latents z_g, its noise ε, some maps (1, h, w)."""

    clean: bool = False
    noise: bool = False
    maps: Sequence[Readable] = ()


@runtime_checkable
class Merge(Protocol):
    """A way to merge the guide into patches. Each patch for itself: neither batch nor order may show.

    What it does not define leaves the patches as they are.
    """

    def needs(self, step: int) -> Needs:
        """What is read for the patches of a step before their turn comes; all else when it is asked for."""
        return Needs()

    def before(self, x_t: Batch, guide: GuideAt) -> Batch:
        """The patches (b, c, h, w) at level t that the network gets."""
        return x_t

    def estimate(self, clean: Batch, guide: GuideAt) -> Batch:
        """The estimate x̂0 (b, c, h, w) that the step is taken with."""
        return clean

    def after(self, x_s: Batch, guide: GuideAt) -> Batch:
        """The patches (b, c, h, w) at level s that are kept."""
        return x_s


class Unmerged(Merge):
    """No guide, or one that gives the first canvas and nothing more."""
