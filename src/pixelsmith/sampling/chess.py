"""The chess mask: on a checkerboard of latent pixels the guide takes the place of the result (paper, section 3.4)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.keyed import Purpose, keyed_generator


def chess_mask(height: int, width: int, phase: int) -> Float[Tensor, "h w"]:
    """1 on the squares that take the guide, 0 elsewhere; ``phase`` 0 or 1 says which colour the corner has."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    return ((rows + columns + phase) % 2).float()


def chess_phase(seed: int, stage: int, step: int, window: Window) -> int:
    """A random phase per patch and step, keyed by where and when it is."""
    generator = keyed_generator(Purpose.CHESS_MASK, seed, stage, step, window.top, window.left)
    return int(generator.integers(2))
