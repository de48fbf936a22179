"""The rules of a step, by name: how patches get from one noise level to the next, given the clean estimate.

A new rule is a function of a ``Move`` and a line of ``SAMPLERS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from pixelsmith.sampling.guidance import Batch
from pixelsmith.sampling.schedule import Level, extrapolated, noised, step


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

    - ``remembers``: whether patches carry their last clean estimate, as many channels again.
    - ``draws``: whether it adds noise of its own at each step.
    """

    move: Callable[[Move], Batch]
    remembers: bool = False
    draws: bool = False


def first_order(move: Move) -> Batch:
    """DDIM (arXiv 2010.02502); for flow matching the same rule is Euler's."""
    return step(move.x, move.clean, move.t, move.s)


def second_order(move: Move) -> Batch:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2)."""
    if move.before is None or move.previous is None:
        return first_order(move)
    direction = extrapolated(move.clean, move.previous, move.before, move.t, move.s)
    return step(move.x, direction, move.t, move.s)


def ancestral(move: Move) -> Batch:
    """Euler ancestral: of the noise at s as much is new as DDPM has it, ``τ² = σ_s²·(1 − (α_t·σ_s / (α_s·σ_t))²)``.

    The rest points to where the estimate says (arXiv 2010.02502, equation 16 with η = 1; as in k-diffusion).
    """
    t, s = move.t, move.s
    kept = s.sigma * min(1.0, t.alpha * s.sigma / (s.alpha * t.sigma))
    added = math.sqrt(max(0.0, s.sigma**2 - kept**2))
    moved = step(move.x, move.clean, t, replace(s, sigma=kept))
    return moved + added * move.fresh() if added > 0 else moved


def consistency(move: Move) -> Batch:
    """Multistep sampling of consistency models (arXiv 2303.01469, algorithm 1; LCM): all of the noise is new."""
    return noised(move.clean, move.fresh(), move.s) if move.s.sigma > 0 else move.s.alpha * move.clean


SAMPLERS: dict[str, Rule] = {
    "ddim": Rule(first_order),
    "dpmpp-2m": Rule(second_order, remembers=True),
    "euler-a": Rule(ancestral, draws=True),
    "lcm": Rule(consistency, draws=True),
}
