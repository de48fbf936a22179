"""The parts of the stages on which a window of the final picture depends."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.plans import Plan
from pixelsmith.engine.doubled import Doubling
from pixelsmith.engine.enlarged import enlarged_to, seen_through
from pixelsmith.engine.inputs import StageInputs
from pixelsmith.families import Upsampler
from pixelsmith.families.family import DOUBLE
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Coarser

_DETAIL_REACH = 10
"""The margin in latents of the previous stage within which the map of local detail depends on the picture."""


@dataclass(frozen=True)
class Reach:
    """The part of a stage that is computed. All values except ``pixels`` are in latents.

    - ``pixels``: the window of the stage's picture that is needed.
    - ``decoded``: the input of the decoder for it; ``encoded``: the window in which the guide is known.
    - ``margin``: the margin around ``decoded`` at the first step.
    - ``wrap``: the axes on which windows may reach over the edges.
    """

    pixels: Window
    decoded: Window
    encoded: Window
    margin: int
    wrap: Wrap = NO_WRAP

    @classmethod
    def around(cls, pixels: Window, size: Size, facts: ModelFacts, surroundings: float, wrap: Wrap = NO_WRAP) -> Reach:
        """The reach of a window of a stage's picture, whose size is ``size`` pixels."""
        canvas, context = facts.latent_size(size), facts.tiling.context
        # Decoders compute one latent more than the part that is kept.
        decoded = wrap.grown(pixels.divided(facts.latent_scale), context + 1, canvas)
        side = max(facts.patch.width, facts.patch.height)
        margin = math.ceil(surroundings * side)
        return cls(pixels, decoded, wrap.grown(decoded, margin + side + context, canvas), margin, wrap)

    def moved(self, step: int, steps: int, canvas: Size) -> Window:
        """The window of the canvas that is computed after ``step`` of ``steps`` steps."""
        return self.wrap.grown(self.decoded, math.ceil(self.margin * (1 - step / steps)), canvas)


@dataclass(frozen=True)
class Uncomputed:
    """A picture or canvas of which only the size is known."""

    size: Size

    def read(self, window: Window) -> Tensor:
        """Raises ``LookupError``."""
        raise LookupError(f"{window} is not computed")


def reaches_of(
    window: Window, the_plan: Plan, inputs: StageInputs, first: int, surroundings: float
) -> dict[int, Reach]:
    """The reach of each stage from ``first`` on for a window of the final picture."""
    sizes = {number: stage.size for number, stage in enumerate(the_plan.stages, start=1)}
    last, picture, facts, wrap = len(sizes), inputs.request.size, inputs.family.facts, inputs.wrap
    wanted = window if sizes[last] == picture else _seen(sizes[last], picture, window, wrap)
    reaches: dict[int, Reach] = {}
    for number in range(last, first - 1, -1):
        reaches[number] = Reach.around(wanted, sizes[number], facts, surroundings, wrap)
        if number > first:
            below, doublings = sizes[number - 1], the_plan.stages[number - 1].doublings
            around = _guided_by(reaches[number].encoded, below, sizes[number], doublings, inputs)
            wanted = wrap.grown(around, _DETAIL_REACH * facts.latent_scale, below)
    return dict(sorted(reaches.items()))


def doubled_from(window: Window, small: Size, size: Size, doubling: Doubling, facts: ModelFacts, wrap: Wrap) -> Window:
    """The part of the latents of the ``small`` picture that is encoded for a window of the latents of a stage."""
    canvas = facts.latent_size(small)
    doubled = doubling.of(Uncomputed(canvas), facts.latent_size(size), wrap)
    return wrap.grown(doubled.sees(window), facts.tiling.context, canvas)


def _guided_by(reach: Window, below: Size, size: Size, doublings: int, inputs: StageInputs) -> Window:
    """The window of the picture of size ``below`` from which the guide in ``reach``, in latents, is made."""
    facts, wrap, network = inputs.family.facts, inputs.wrap, inputs.family.latent_upsampler
    if network is None or not doublings:
        return _seen(below, size, reach.scaled(facts.latent_scale), wrap, inputs.upsampler)
    small = Coarser(Uncomputed(below), below, size, "lanczos", wrap=wrap, times=DOUBLE**doublings)
    around = doubled_from(reach, small.size, size, Doubling(network, doublings), facts, wrap)
    return small.sees(around.scaled(facts.latent_scale))


def _seen(below: Size, size: Size, window: Window, wrap: Wrap, upsampler: Upsampler | None = None) -> Window:
    """The window of a picture of size ``below`` from which a window of its enlargement to ``size`` is computed."""
    around = seen_through(enlarged_to(size, Uncomputed(below), "lanczos", upsampler, wrap), window)
    return wrap.grown(around, 0, below)
