"""The interface of guide merges: what they may do to the patches of a step, and how a stage creates them."""

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
    """The guide in the windows of some patches at one step; it is read on first use.

    - ``seed``, ``stage``: the key of randomness.
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
        """z_g: the encoded picture of the previous stage, (b, c, h, w)."""
        return self.read_clean()

    @cached_property
    def _noise(self) -> Batch:
        return self.read_noise()

    def at(self, level: Level) -> Batch:
        """The guide at a noise level: ``α·z_g + σ·ε`` (paper, section 3.2)."""
        return noised(self.clean, self._noise, level)


@dataclass(frozen=True)
class Needs:
    """Which parts of the guide patches need: its latents z_g, its noise ε, some maps (1, h, w)."""

    clean: bool = False
    noise: bool = False
    maps: Sequence[Readable] = ()


@runtime_checkable
class Merge(Protocol):
    """Merges the guide into patches, each independently of the others in its batch.

    The methods that a subclass does not override leave the patches unchanged.
    """

    def needs(self, step: int) -> Needs:
        """What to read ahead for the patches of a step; everything else is read on first use."""
        return Needs()

    def before(self, x_t: Batch, guide: GuideAt) -> Batch:
        """The patches (b, c, h, w) at level t that are passed to the network."""
        return x_t

    def estimate(self, clean: Batch, guide: GuideAt) -> Batch:
        """The estimate x̂0 (b, c, h, w) that the sampler uses."""
        return clean

    def after(self, x_s: Batch, guide: GuideAt) -> Batch:
        """The patches (b, c, h, w) at level s that are written to the canvas."""
        return x_s


class Unmerged(Merge):
    """No guide, or one that is used only for the first canvas."""


@dataclass(frozen=True)
class Lead:
    """The parameters of a stage from which a merge is created.

    - ``weights``: the guide's weight at each step, 1 to 0.
    - ``positions``: the Slider map (1, h, w) of the canvas.
    - ``bands``: the frequency band that is held at a position of the Slider.
    - ``factor``: the scale factor of the stage.
    - ``flatness``: where new detail is moderated, if structure is held, a map (1, h, w) from 0 to 1.
    - ``chess_mask``: whether the paper's merge uses the chess mask.
    """

    weights: Sequence[float]
    positions: Readable
    bands: Bands
    factor: float
    flatness: Readable | None = None
    chess_mask: bool = True


@dataclass(frozen=True)
class Merging:
    """A guide merge by name.

    - ``made_of``: creates the merge of a stage.
    - ``weights``: the guide's weight at each step, 1 to 0.
    - ``most``: the largest scale factor of one stage, if the user does not give a cascade.
    - ``slider``: the default Slider; ``None`` is the model's recommendation.
    - ``unused``: the settings of a method that have no effect with it.
    """

    name: str
    made_of: Callable[[Lead], Merge]
    weights: Callable[[Leading], tuple[float, ...]] = guided_share
    most: float = 4.0
    slider: float | None = 0.6
    unused: tuple[str, ...] = ("slider_map", "slider_steps")
