"""What a way to merge the guide is: what it may do to the patches of a step, and what a stage makes it of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

from pixelsmith.geometry import Window
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.merging.band import Bands
from pixelsmith.sampling.readable import Readable
from pixelsmith.sampling.schedule import Level, noised
from pixelsmith.sampling.slider import Leading, guided_share


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


@dataclass(frozen=True)
class Lead:
    """What a stage merges its guide by: of it each way takes what it needs.

    - ``weights``: how strongly the guide leads each step, 1 to 0.
    - ``positions``: the Slider map (1, h, w) of the canvas.
    - ``bands``: what is held at a position of the Slider.
    - ``factor``: how many times as large as the picture below the stage's is.
    - ``flatness``: where new detail is moderated, if structure is held, a map (1, h, w) from 0 to 1.
    - ``chess_mask``: whether the paper's way has its mask.
    """

    weights: Sequence[float]
    positions: Readable
    bands: Bands
    factor: float
    flatness: Readable | None = None
    chess_mask: bool = True


@dataclass(frozen=True)
class Merging:
    """A way to merge the guide, by name.

    - ``made_of``: the way as a stage uses it.
    - ``weights``: the guide's weight at each of the steps, 1 to 0.
    - ``most``: the largest growth of a side in one stage, where the user leaves the cascade open.
    - ``slider``: the Slider where nothing is said of it; ``None`` is as the model recommends.
    - ``unused``: what of a method it has no use for.
    """

    name: str
    made_of: Callable[[Lead], Merge]
    weights: Callable[[Leading], tuple[float, ...]] = guided_share
    most: float = 4.0
    slider: float | None = 0.6
    unused: tuple[str, ...] = ("slider_map", "slider_steps")
