"""Whether single frequencies stand out from fine texture, such as hatching, which powers of octaves do not show."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIDE = 16
"""The side of the neighbourhoods in pixels."""
FAINT = (0.5 / 127.5) ** 2
"""The power of half a grey value, below which a neighbourhood counts as flat."""


def peaks(pixels: Tensor) -> Tensor:
    """How much single frequencies of pictures (n, 3, H, W) in -1..1 stand out from the finest octave.

    In neighbourhoods of 16 pixels, the mean square of the frequencies' powers relative to the squared mean power of
    frequencies of the same magnitude: 2 for isotropic random texture in large neighbourhoods, more for repetition. Flat
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
