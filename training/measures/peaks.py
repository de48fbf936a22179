"""Whether single frequencies stand out of fine texture: a hatching of a few pixels, to which octaves are blind."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIDE = 16
"""Pixels a side of the neighbourhoods."""
FAINT = (0.5 / 127.5) ** 2
"""Power that is nothing: of half a grey value."""


def peaks(pixels: Tensor) -> Tensor:
    """How much single frequencies of pictures (n, 3, H, W) in -1..1 stand out of the finest octave, in neighbourhoods
    of 16 pixels: the mean square of their powers against the mean power of all frequencies as high.

    2 for random texture without direction, if neighbourhoods are large; more where something comes again. Flat
    neighbourhoods are left out; 0 if all are flat.
    """
    windows = F.unfold(pixels.mean(1, keepdim=True), SIDE, stride=SIDE // 2).transpose(1, 2)
    windows = windows.reshape(-1, SIDE, SIDE)
    hann = torch.hann_window(SIDE, device=pixels.device)
    windows = (windows - windows.mean((1, 2), keepdim=True)) * hann[:, None] * hann
    frequency = torch.fft.fftfreq(SIDE, device=pixels.device)
    radius = torch.hypot(frequency[:, None], frequency)
    octave = (radius > 0.25) & (radius < 0.5)
    power = torch.fft.fft2(windows).abs().square()[:, octave]
    rings = F.one_hot((SIDE * radius[octave]).round().long()).float()
    rings = rings[:, rings.sum(0) > 0]
    means = power @ rings / rings.sum(0)
    rough = power.mean(1) > FAINT * SIDE**2 * hann.square().mean() ** 2
    relative = power[rough] / (means[rough] @ rings.T)
    mean: Tensor = relative.square().sum() / max(relative.numel(), 1)
    return mean
