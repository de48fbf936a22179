"""The layers of a texture network in numbers, and how far around a window they see."""

from __future__ import annotations

FINE, COARSE = 2, 4
"""Pixels on a side of a value in which texture is drawn, and of one in which the surroundings are seen."""
RESIDUAL = 3
"""Convolutions between the first and the last one."""
BLURS = 2
"""How often what is drawn is blurred, each time over twice the distance, for the means that are taken out of it."""
MARGIN = FINE * (RESIDUAL + 1 + 2**BLURS - 1) + COARSE * (3 + 1)
"""Pixels around a window of whole latents that decide what it becomes: of the convolutions after the surroundings come
in and of the blurs, and of the three convolutions that see the surroundings and their interpolation."""
