"""The interface of samplers: a rule that moves patches from one noise level to the next, given a clean estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level


@dataclass(frozen=True)
class Move:
    """One step of some patches, from level ``t`` to level ``s``.

    - ``x``: the patches (b, c, h, w) at ``t``; ``clean``: the estimate x̂0 for them.
    - ``previous``: x̂0 of the previous step, which started at level ``before``; both are ``None`` at the first step, and
      ``previous`` is if the rule does not remember it.
    - ``fresh``: reads standard normal noise for this step and these windows, (b, c, h, w).
    """

    x: Batch
    clean: Batch
    t: Level
    s: Level
    previous: Batch | None
    before: Level | None
    fresh: Callable[[], Batch]


@dataclass(frozen=True)
class Rule:
    """A sampler.

    - ``name``: its name in requests and on the command line.
    - ``move``: a pure function of one step.
    - ``remembers``: whether patches carry their last clean estimate, which doubles their channels.
    - ``draws``: whether it adds fresh noise at each step.
    """

    name: str
    move: Callable[[Move], Batch]
    remembers: bool = False
    draws: bool = False
