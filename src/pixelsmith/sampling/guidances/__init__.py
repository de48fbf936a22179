"""Guidances: a file each, which defines a ``GUIDANCE``."""

from pixelsmith.discovery import defined_in
from pixelsmith.sampling.guidances.combination import Combination, Guidance

GUIDANCES: dict[str, Guidance] = {guidance.name: guidance for guidance in defined_in(__name__, "GUIDANCE")}
"""By the name that they are asked for by."""

__all__ = ["GUIDANCES", "Combination", "Guidance"]
