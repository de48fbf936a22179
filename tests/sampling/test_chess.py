from __future__ import annotations

import torch

from pixelsmith.geometry import Window
from pixelsmith.sampling.chess import chess_mask, chess_phase


def test_the_mask_is_a_checkerboard_with_complementary_phases() -> None:
    mask = chess_mask(5, 4, 0)
    assert mask.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert torch.equal(mask + chess_mask(5, 4, 1), torch.ones(5, 4))


def test_phases_are_keyed_and_balanced() -> None:
    windows = [Window(top, left, 8, 8) for top in range(20) for left in range(20)]
    phases = [chess_phase(1, 1, 0, window) for window in windows]
    assert phases == [chess_phase(1, 1, 0, window) for window in windows]
    assert phases != [chess_phase(1, 1, 1, window) for window in windows]
    assert 0.4 < sum(phases) / len(phases) < 0.6
