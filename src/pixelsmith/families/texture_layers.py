"""The layers of a texture network in numbers, and its receptive field."""

from __future__ import annotations

FINE, COARSE = 2, 4
"""The strides in pixels at which texture is generated, and at which the surroundings are encoded."""
RESIDUAL = 3
"""The number of convolutions between the first and the last one."""
BLURS = 2
"""The number of blurs, each over twice the distance of the one before, for the local means that are subtracted."""
MARGIN = FINE * (RESIDUAL + 1 + 2**BLURS - 1) + COARSE * (3 + 1)
"""The receptive field around a window of whole latents in pixels: of the convolutions and blurs at the fine stride, and
of the three convolutions at the coarse stride with their interpolation."""
