"""Guidances: one file each, which defines a ``GUIDANCE``."""

from pixelsmith.discovery import defined_in
from pixelsmith.sampling.guidances.combination import Combination, Guidance

GUIDANCES: dict[str, Guidance] = {guidance.name: guidance for guidance in defined_in(__name__, "GUIDANCE")}
"""Guidances by name."""

__all__ = ["GUIDANCES", "Combination", "Guidance"]
