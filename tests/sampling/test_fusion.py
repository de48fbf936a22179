from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelsmith.sampling.fusion import FUSIONS, fuse

sides = st.integers(1, 17)


def by_angles(x: NDArray[np.float64], guide: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """The same in angles and full complex transforms: an independent formulation."""
    a, b = np.fft.fft2(x), np.fft.fft2(guide)
    angle_a, angle_b = np.angle(a), np.angle(b)
    # The circular mean of two angles: half the way along the shorter arc.
    mean = angle_a + np.angle(np.exp(1j * (angle_b - angle_a))) / 2
    amplitudes = {"canvas": abs(a), "guide": abs(b), "mean": (abs(a) + abs(b)) / 2}
    phases = {"canvas": angle_a, "guide": angle_b, "mean": mean}
    fusion = FUSIONS[name]
    return np.fft.ifft2(amplitudes[fusion.amplitude] * np.exp(1j * phases[fusion.phase])).real


@pytest.mark.parametrize("name", FUSIONS)
@given(height=sides, width=sides, seed=st.integers(0, 1000))
def test_fusion_equals_the_formulation_by_angles(name: str, height: int, width: int, seed: int) -> None:
    # Means of the two pictures of equal sign: opposite phases have no mean (tested below).
    rng = np.random.default_rng(seed)
    x, guide = rng.standard_normal((2, 2, 3, height, width))
    fused = fuse(torch.from_numpy(x).float(), torch.from_numpy(guide).float(), FUSIONS[name]).double().numpy()
    spectra = np.fft.fft2(x), np.fft.fft2(guide)
    with np.errstate(invalid="ignore"):
        opposite = np.abs(np.angle(spectra[0] / spectra[1])) > np.pi - 1e-3
    expected = by_angles(x, guide, name)
    if FUSIONS[name].phase != "mean" or not opposite.any():
        np.testing.assert_allclose(fused, expected, atol=2e-4)


def test_phase_fusion_keeps_the_canvas_amplitude_whatever_the_guide() -> None:
    x, guide = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    fused = fuse(x, guide, FUSIONS["phase"])
    torch.testing.assert_close(torch.fft.fft2(fused).abs(), torch.fft.fft2(x).abs(), atol=1e-3, rtol=1e-3)


def test_weight_leads_from_the_canvas_to_full_fusion() -> None:
    x, guide = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fuse(x, guide, FUSIONS["phase"], weight=0), x)
    distances = [(fuse(x, guide, FUSIONS["phase"], weight=w) - x).norm().item() for w in (0.1, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_frequencies_without_a_modulus_have_a_defined_answer() -> None:
    constant = torch.full((1, 8, 8), 2.0)
    wave = torch.cos(torch.arange(8) * torch.pi / 4).expand(1, 8, 8).clone()
    zero = torch.zeros(1, 8, 8)
    for x in (constant, wave, zero):
        for guide in (constant, wave, zero):
            assert fuse(x, guide, FUSIONS["phase"]).isfinite().all()
    torch.testing.assert_close(fuse(wave, zero, FUSIONS["phase"]), wave)
    torch.testing.assert_close(fuse(zero, wave, FUSIONS["guide"]), wave)


def test_opposite_phases_leave_the_canvas() -> None:
    x = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fuse(x, -x, FUSIONS["phase"]), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_fused_in_float32(dtype: torch.dtype) -> None:
    x, guide = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    fused = fuse(x, guide, FUSIONS["phase"])
    assert fused.dtype == dtype
    assert torch.equal(fused, fuse(x.float(), guide.float(), FUSIONS["phase"]).to(dtype))
