from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelsmith.sampling.fusion import FUSIONS, fuse

sides = st.integers(1, 17)


def by_angles(
    canvas: NDArray[np.complex128], guide: NDArray[np.complex128], name: str
) -> tuple[NDArray[np.complex128], NDArray[np.bool_]]:
    """The fused spectrum computed from angles, an independent formulation, and where phases are opposite and have no
    mean.
    """
    angle, turn = np.angle(canvas), np.angle(guide * canvas.conj())
    fusion = FUSIONS[name]
    opposite = (np.abs(turn) > np.pi - 1e-3) & (fusion.phase == "mean")
    amplitudes = {"canvas": abs(canvas), "guide": abs(guide), "mean": (abs(canvas) + abs(guide)) / 2}
    # The circular mean of two angles lies half the way along the shorter arc.
    phases = {"canvas": angle, "guide": angle + turn, "mean": angle + np.where(opposite, 0, turn / 2)}
    return amplitudes[fusion.amplitude] * np.exp(1j * phases[fusion.phase]), opposite


@pytest.mark.parametrize("name", FUSIONS)
@given(height=sides, width=sides, seed=st.integers(0, 1000))
def test_fusion_equals_the_formulation_by_angles(name: str, height: int, width: int, seed: int) -> None:
    x, guide = np.random.default_rng(seed).standard_normal((2, 3, height, width))
    fused = fuse(torch.from_numpy(x).float(), torch.from_numpy(guide).float(), FUSIONS[name]).double().numpy()
    expected, opposite = by_angles(np.fft.fft2(x), np.fft.fft2(guide), name)
    # Real frequencies (the mean among them) are either equal in sign or exactly opposite; others are neither.
    exact = opposite & (np.abs(np.fft.fft2(x).imag) < 1e-9)
    clear = ~opposite | exact
    assert clear.mean() > 0.9 or height * width < 9
    np.testing.assert_allclose(np.fft.fft2(fused)[clear], expected[clear], atol=5e-3)


def test_phase_fusion_keeps_the_canvas_amplitude_whatever_the_guide() -> None:
    x, guide = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    fused = fuse(x, guide, FUSIONS["phase"])
    torch.testing.assert_close(torch.fft.fft2(fused).abs(), torch.fft.fft2(x).abs(), atol=1e-3, rtol=1e-3)


def test_weight_interpolates_from_the_canvas_to_full_fusion() -> None:
    x, guide = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fuse(x, guide, FUSIONS["phase"], weight=0), x)
    distances = [(fuse(x, guide, FUSIONS["phase"], weight=w) - x).norm().item() for w in (0.1, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] > 0


def test_frequencies_of_zero_amplitude_have_a_defined_result() -> None:
    constant = torch.full((1, 8, 8), 2.0)
    wave = torch.cos(torch.arange(8) * torch.pi / 4).expand(1, 8, 8).clone()
    zero = torch.zeros(1, 8, 8)
    for x in (constant, wave, zero):
        for guide in (constant, wave, zero):
            assert fuse(x, guide, FUSIONS["phase"]).isfinite().all()
    torch.testing.assert_close(fuse(wave, zero, FUSIONS["phase"]), wave)
    torch.testing.assert_close(fuse(zero, wave, FUSIONS["guide"]), wave)


def test_opposite_phases_keep_the_canvas() -> None:
    x = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fuse(x, -x, FUSIONS["phase"]), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_fused_in_float32(dtype: torch.dtype) -> None:
    x, guide = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    fused = fuse(x, guide, FUSIONS["phase"])
    assert fused.dtype == dtype
    assert torch.equal(fused, fuse(x.float(), guide.float(), FUSIONS["phase"]).to(dtype))
