"""Measures of a decoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from training.restored import HeldOut, coarse, cut_outs, fine, periods, windows
from training.sampled import SIDE
from training.sampled import cut_outs as of_tiles

RNG = np.random.default_rng(0)


def noise(*shape: int) -> NDArray[np.float64]:
    return RNG.normal(100, 10, shape)


def test_a_texture_that_repeats_at_each_latent_is_detected() -> None:
    woven = np.tile(noise(3, 8, 8), (1, 8, 8))
    assert min(periods(woven)) > 0.9
    assert np.abs(periods(noise(20, 64, 64))).max() < 0.05


def test_texture_is_the_part_of_a_window_that_latents_do_not_determine() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 64), (2, 64, 64))
    assert np.abs(fine(ramp)).max() < 12, "an even rise of tone is no texture"
    rough = noise(2, 64, 64)
    assert 0.9 < fine(rough).std() / rough.std() < 1.1


def test_flat_windows_are_those_without_structure() -> None:
    pixels = RNG.integers(0, 255, (1, 256, 256, 3), dtype=np.uint8)
    pixels = pixels // 4 + np.linspace(0, 100, 256).astype(np.uint8)[None, :, None, None]
    pixels[:, :64, :64] = 90
    flat = HeldOut("satellite", pixels).flat
    assert flat[0]
    assert flat.sum() == 2
    assert coarse(windows(pixels))[0].std() == 0


def test_cut_outs_are_not_scaled() -> None:
    pixels = RNG.integers(0, 255, (2, 256, 256, 3), dtype=np.uint8)
    found = cut_outs(pixels)
    assert found.shape == (8, 128, 128, 3)
    assert np.array_equal(found[-1], pixels[1, 128:, 128:])


def test_latents_are_cropped_from_tiles_of_any_size() -> None:
    tiles = [torch.randn(4, SIDE, SIDE), torch.randn(4, SIDE + 9, SIDE + 20)]
    found = list(of_tiles(tiles, np.random.default_rng(0)))
    assert {cut.shape for cut in found} == {(4, SIDE, SIDE)}
    assert np.array_equal(found[0], tiles[0].numpy().astype(np.float16))
    assert len(found) == 5
