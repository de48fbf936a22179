"""The chess mask: on a checkerboard of latent pixels the result is replaced by the guide (paper, section 3.4)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.keyed import Purpose, keyed_generator


def chess_mask(height: int, width: int, phase: int) -> Float[Tensor, "h w"]:
    """1 on the squares that are replaced by the guide, 0 elsewhere; ``phase``: 0 or 1, the value of the corner."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    return ((rows + columns + phase) % 2).float()


def chess_phase(seed: int, stage: int, step: int, window: Window) -> int:
    """A random phase for a patch and a step, keyed by the patch's position and the step."""
    generator = keyed_generator(Purpose.CHESS_MASK, seed, stage, step, window.top, window.left)
    return int(generator.integers(2))
