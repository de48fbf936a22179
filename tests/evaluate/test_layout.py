"""Metrics that distinguish layout from grain, and content that was added in flat areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelsmith.evaluate.spectrum import octave_powers
from pixelsmith.evaluate.structure import invented, layout_psnr


def waves(period: int, amplitude: float, side: int = 256) -> NDArray[np.float64]:
    """Grey waves (side, side, 3) of this length in pixels, from left to right, around 128."""
    wave = 128 + amplitude * np.sin(2 * math.pi * np.arange(side) / period)
    return np.broadcast_to(wave[None, :, None], (side, side, 3)).copy()


def pixels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return values.round().clip(0, 255).astype(np.uint8)


def test_layout_depends_on_tones_but_not_on_grain() -> None:
    picture = pixels(waves(64, 40))
    grain = pixels(waves(64, 40) + np.random.default_rng(0).normal(0, 20, (256, 256, 3)))
    assert layout_psnr(picture, picture, 16) == pytest.approx(10 * np.log10(255**2 / 1e-10))
    # Shrinking 16 times averages what is independent: 24 dB better than the 22 dB of the pixels themselves.
    assert layout_psnr(picture, grain, 256) == pytest.approx(10 * np.log10(255**2 / 20**2), abs=0.3)
    assert layout_psnr(picture, grain, 16) > 43
    lighter = pixels(waves(64, 40) + 5)
    assert layout_psnr(picture, lighter, 16) == pytest.approx(10 * np.log10(255**2 / 25), abs=0.2)


def test_only_differences_within_flat_blocks_count_as_invented() -> None:
    base = pixels(waves(8, 60))
    base[:, :128] = 90
    assert invented(base, base) == 0
    tone = base.copy()
    tone[:, :128] = 100
    assert invented(tone, base) == pytest.approx(0)
    busy = base.copy()
    busy[:, 128:] = 128
    assert invented(busy, base) == pytest.approx(0)
    island = base.copy()
    island[:, :128] = pixels(90 + waves(8, 10, 256)[:, :128] - 128)
    assert invented(island, base) == pytest.approx(10 / math.sqrt(2), rel=0.05)
    assert math.isnan(invented(base[:, 128:], base[:, 128:]))


@pytest.mark.parametrize(("period", "octave"), [(3, 3), (6, 2), (12, 1), (24, 0)])
def test_the_power_of_a_wave_is_in_the_octave_of_its_length(period: int, octave: int) -> None:
    powers = octave_powers(pixels(waves(period, 40)), 4)
    assert int(powers.argmax()) == octave
    assert powers[octave] > 10 * np.delete(powers, octave).max()


def test_twice_the_amplitude_is_four_times_the_power() -> None:
    noise = np.random.default_rng(0).normal(0, 10, (256, 256, 3))
    ratio = octave_powers(pixels(128 + 2 * noise), 4) / octave_powers(pixels(128 + noise), 4)
    assert ratio == pytest.approx([4] * 4, rel=0.02)
