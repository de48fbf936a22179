"""The power of a picture by spatial frequency, alone and compared with that of real pictures."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BANDS = 12
"""Bands of equal width on a logarithmic scale, from 3 cycles per window to half a cycle per pixel."""
LUMA = (0.299, 0.587, 0.114)


def radial_spectrum(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean power of grey values in each band of frequency (BANDS,), coarsest first.

    ``pixels``: square windows (n, s, s, 3) of one or more pictures. The mean of each is subtracted and a Hann window
    applied, so that edges do not count as detail (Welch's method, 1967). In squared grey values, at least 0.
    """
    power, frequency = _power(pixels)
    edges = np.geomspace(3 / pixels.shape[1], 0.5, BANDS + 1)
    return np.array([power[(frequency >= low) & (frequency <= high)].mean() for low, high in pairwise(edges)])


def detail(pixels: NDArray[np.uint8], factor: float) -> float:
    """Mean power of the frequencies that a picture enlarged by ``factor`` cannot contain, in decibels.

    These are above the base's Nyquist frequency: 0.5/``factor`` to 0.5 cycles per pixel. ``pixels`` as for
    ``radial_spectrum``; 0 dB is the power of white noise of one grey value, and 3 dB more is twice as much. It is an
    amount without a better direction, to which noise and seams contribute too; ``spectrum_distance`` compares with real
    pictures. Not a number if nothing was enlarged.
    """
    power, frequency = _power(pixels)
    fine = (frequency > 0.5 / factor) & (frequency <= 0.5)
    return float(10 * np.log10(power[fine].mean() + 1e-12)) if fine.any() else float("nan")


def octave_powers(pixels: NDArray[np.uint8], octaves: int) -> NDArray[np.float64]:
    """Mean power of a square picture (h, w, 3) in its ``octaves`` finest octaves, coarsest first.

    The last one is from 0.25 to 0.5 cycles per pixel. In squared grey values.
    """
    power, frequency = _power(pixels[None])
    edges = 0.5 ** np.arange(octaves + 1, 0, -1)
    return np.array([power[(frequency > low) & (frequency <= high)].mean() for low, high in pairwise(edges)])


def _power(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power (s, s) of windows, and the frequency of each element in cycles per pixel."""
    side = pixels.shape[1]
    fade = np.hanning(side + 2)[1:-1]
    fade_2d = fade[:, None] * fade
    grey = pixels.astype(np.float64) @ np.array(LUMA)
    grey -= grey.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(grey * fade_2d)) ** 2).mean(0) / np.square(fade_2d).sum()
    return power, np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))


def spectrum_distance(spectrum: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Mean ``|ln(S / S_truth)|`` over the bands: 0 for the same spectrum, 0.1 for power that differs by a tenth.

    Lower is better, without an upper bound; too little detail and too much (noise) both increase it.
    """
    return float(np.abs(np.log((spectrum + 1e-12) / (truth + 1e-12))).mean())
