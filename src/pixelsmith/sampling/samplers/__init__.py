"""Samplers: one file each, which defines a ``RULE``."""

from pixelsmith.discovery import defined_in
from pixelsmith.sampling.samplers.rule import Move, Rule

SAMPLERS: dict[str, Rule] = {rule.name: rule for rule in defined_in(__name__, "RULE")}
"""Samplers by name."""

__all__ = ["SAMPLERS", "Move", "Rule"]
