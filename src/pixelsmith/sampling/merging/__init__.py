"""Ways to merge the guide into the patches of a stage, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pixelsmith.sampling.fusion import FUSIONS, Fusion
from pixelsmith.sampling.merging.hold import Bands, Held
from pixelsmith.sampling.merging.merge import GuideAt, Merge, Unmerged
from pixelsmith.sampling.merging.phase import Fused
from pixelsmith.sampling.merging.residual import SkipResidual
from pixelsmith.sampling.readable import Readable


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


def _fused(fusion: Fusion, lead: Lead) -> Merge:
    return Fused(lead.weights, fusion, lead.chess_mask)


MERGES: dict[str, Callable[[Lead], Merge]] = {
    "hold": lambda lead: Held(lead.weights, lead.positions, lead.bands, lead.factor, lead.flatness),
    **{name: partial(_fused, fusion) for name, fusion in FUSIONS.items()},
    "residual": lambda lead: SkipResidual(lead.weights),
}
"""``hold`` is the default, ``phase`` the paper's, the other fusions are its ablations, ``residual`` is DemoFusion's."""

__all__ = ["MERGES", "Bands", "Fused", "GuideAt", "Held", "Lead", "Merge", "SkipResidual", "Unmerged"]
