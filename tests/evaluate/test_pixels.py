"""Metrics of pixels on pictures whose values are known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelsmith.canvas import Array
from pixelsmith.evaluate.spectrum import BANDS, detail, radial_spectrum, spectrum_distance
from pixelsmith.evaluate.structure import colour_drift, lab, shrunk, ssim
from pixelsmith.evaluate.wasserstein import laplacian_pyramid, neighbourhoods, sliced_wasserstein, slices
from pixelsmith.geometry import Size


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def readable(pixels: NDArray[np.uint8]) -> Array:
    return Array(torch.from_numpy(pixels).permute(2, 0, 1))


def test_ssim_equals_torchmetrics() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.image import structural_similarity_index_measure

    a = noise(48, 40, 3)
    b = (0.7 * a + 0.3 * noise(48, 40, 3, seed=1)).astype(np.uint8)
    x, y = (torch.from_numpy(picture @ np.array([0.299, 0.587, 0.114]))[None, None] for picture in (a, b))
    _, everywhere = structural_similarity_index_measure(x, y, data_range=255.0, sigma=1.5, return_full_image=True)
    # Theirs continues the pictures past their edges: there are five windows more on each side.
    assert ssim(a, b) == pytest.approx(float(everywhere[..., 5:-5, 5:-5].mean()), abs=1e-6)
    assert ssim(a, a) == pytest.approx(1)
    assert ssim(a, 255 - a) < 0


def test_downscaling_equals_pillow() -> None:
    """Window by window or at once; Pillow's 8-bit arithmetic rounds once more."""
    from PIL import Image

    pixels = noise(264, 396, 3)
    expected = np.asarray(Image.fromarray(pixels).resize((132, 88), Image.Resampling.LANCZOS))
    found = shrunk(readable(pixels), Size(132, 88))
    inside = (slice(4, -4), slice(4, -4))
    assert np.abs(found[inside].astype(int) - expected[inside]).max() <= 3


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20)),
     ((0, 0, 255), (32.30, 79.19, -107.86)), ((119, 119, 119), (50.03, 0, 0))],
)  # fmt: skip
def test_colours_with_published_cielab_values(rgb: tuple[int, ...], expected: tuple[float, ...]) -> None:
    assert lab(np.array(rgb, np.uint8)) == pytest.approx(expected, abs=0.02)


def test_colour_drift_of_plain_pictures_and_of_contrast() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert colour_drift(white, black) == pytest.approx((100, 0), abs=1e-2)
    half = black.copy()
    half[:4] = 255
    assert colour_drift(half, black) == pytest.approx((50, 50), abs=1e-2)
    assert colour_drift(half, half) == (0, 0)


def test_the_spectrum_of_a_wave_is_in_its_band() -> None:
    """A wave of 1/4 per pixel: nearly all power is in the band that contains it. Half the contrast: ln 4 less."""
    wave = 127 + 100 * np.sin(np.arange(128) * np.pi / 2)
    pixels = np.broadcast_to(wave[None, :, None], (128, 128, 3)).round().astype(np.uint8)
    edges = np.geomspace(3 / 128, 0.5, BANDS + 1)
    spectrum = radial_spectrum(pixels[None])
    holds = int(np.searchsorted(edges, 0.25)) - 1
    assert spectrum.argmax() == holds


def test_spectrum_distance_is_the_logarithm_of_power() -> None:
    pixels = noise(2, 64, 64, 3)
    spectrum = radial_spectrum(pixels)
    assert spectrum_distance(spectrum, spectrum) == 0
    assert spectrum_distance(4 * spectrum, spectrum) == pytest.approx(np.log(4))
    softer = radial_spectrum(((pixels // 2) * 1).astype(np.uint8))
    assert spectrum_distance(softer, spectrum) == pytest.approx(np.log(4), abs=0.05)


def test_white_noise_has_the_same_power_at_all_frequencies() -> None:
    """Equal to its variance: that of three independent channels, weighted as for grey."""
    spectrum = radial_spectrum(noise(40, 64, 64, 3))
    expected = (256**2 - 1) / 12 * np.square([0.299, 0.587, 0.114]).sum()
    np.testing.assert_allclose(spectrum, expected, rtol=0.15)


def test_detail_is_the_power_that_an_enlarged_picture_lacks() -> None:
    """White noise of a known variance has it at all frequencies; half the contrast is 6 dB less."""
    pixels = noise(40, 64, 64, 3) // 2 + 64
    variance = (128**2 - 1) / 12 * np.square([0.299, 0.587, 0.114]).sum()
    for factor in (1.5, 4.0):
        assert detail(pixels, factor) == pytest.approx(10 * np.log10(variance), abs=0.3)
    assert detail(pixels, 2) - detail((pixels // 2).astype(np.uint8), 2) == pytest.approx(20 * np.log10(2), abs=0.1)
    assert np.isnan(detail(pixels, 1))
    # A wave as fine as what twice the size can show and no base can, and one that a base can.
    for period, low, high in ((3, 20, 60), (8, -60, 0)):
        wave = 127 + 100 * np.sin(2 * np.pi * np.arange(128) / period)
        row = np.broadcast_to(wave[None, :, None], (128, 128, 3)).round().astype(np.uint8)
        assert low < detail(row[None], 2) < high


def test_an_enlarged_picture_has_less_detail_than_a_sharp_one() -> None:
    from PIL import Image

    base, sharp = noise(32, 32, 3), noise(128, 128, 3)
    enlarged = np.asarray(Image.fromarray(base).resize((128, 128), Image.Resampling.LANCZOS))
    assert detail(enlarged[None], 4) < detail(sharp[None], 4) - 6


def test_the_pyramid_sums_to_the_picture_and_separates_octaves() -> None:
    pixels = torch.from_numpy(noise(2, 3, 64, 64)).float()
    bands = laplacian_pyramid(pixels, 3)
    assert [tuple(band.shape[-2:]) for band in bands] == [(64, 64), (32, 32), (16, 16)]
    from pixelsmith.evaluate.wasserstein import _enlarged

    back = bands[-1]
    for band in reversed(bands[:-1]):
        back = band + _enlarged(back, band.shape[-2:])
    torch.testing.assert_close(back, pixels, atol=1e-3, rtol=0)
    plain = laplacian_pyramid(torch.full((1, 3, 32, 32), 9.0), 3)
    assert plain[0][..., 4:-4, 4:-4].abs().max() < 1e-4


def test_sliced_wasserstein_is_zero_for_equal_sets_only() -> None:
    band = torch.from_numpy(noise(8, 3, 32, 32)).float()
    same = [slices(neighbourhoods(band, 400, seed)) for seed in (0, 1)]
    assert sliced_wasserstein(same[0], same[0]) == 0
    smooth = slices(neighbourhoods(torch.nn.functional.avg_pool2d(band, 5, 1, 2), 400, 2))
    assert sliced_wasserstein(same[0], same[1]) < 0.3 * sliced_wasserstein(same[0], smooth)


def test_sliced_wasserstein_of_two_values_in_closed_form() -> None:
    """All pixels of a neighbourhood are ±1 together, and the other set is standard normal. Along a direction w the
    sets are ±|Σw| and |Σw|·normal: the distance of ±1 and a normal is 0.4838 of |Σw|, whose mean over random unit
    directions in 147 dimensions, with equal channels, is sqrt(2/π).
    """
    rng = np.random.default_rng(0)
    signs = np.repeat([-1.0, 1.0], 4000)[:, None, None, None] * np.ones((1, 3, 7, 7))
    normal = rng.standard_normal((8000, 1, 1, 1)) * np.ones((1, 3, 7, 7))
    x = np.sort(rng.standard_normal(200_000))
    expected = np.abs(np.abs(x) - 1).mean() * np.sqrt(2 / np.pi)
    a, b = (slices(x.astype(np.float32)) for x in (signs, normal))
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=0.15)
