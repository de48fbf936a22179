"""What a sampler is: the rule by which patches get from one noise level to the next, given the clean estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.schedule import Level


@dataclass(frozen=True)
class Move:
    """One step of some patches, from level ``t`` to level ``s``.

    - ``x``: the patches (b, c, h, w) at ``t``; ``clean``: the estimate x̂0 for them.
    - ``previous``: x̂0 of the step before, which began at level ``before``; both are ``None`` at the first step, and
      the former where the rule does not remember it.
    - ``fresh``: reads standard normal noise of this step and place, (b, c, h, w).
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
    """How patches move.

    - ``name``: what it is asked for by.
    - ``move``: a pure function of one step.
    - ``remembers``: whether patches carry their last clean estimate, as many channels again.
    - ``draws``: whether it adds noise of its own at each step.
    """

    name: str
    move: Callable[[Move], Batch]
    remembers: bool = False
    draws: bool = False
