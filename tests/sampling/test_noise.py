from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling import noise
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import DrawnNoise, NoiseField

windows = st.builds(Window, st.integers(0, 90), st.integers(0, 90), st.integers(1, 50), st.integers(1, 50))


@given(window=windows, seed=st.integers(0, 2**63))
def test_noise_does_not_depend_on_the_window(window: Window, seed: int) -> None:
    field = NoiseField(seed, 1, 3)
    whole = field.read(Window(0, 0, 140, 140))
    assert torch.equal(field.read(window), whole[(slice(None), *window.slices)])


def test_noise_depends_on_seed_and_stage_but_not_on_earlier_calls() -> None:
    window = Window(3, 5, 40, 40)
    first = NoiseField(7, 1, 4).read(window)
    torch.manual_seed(123)
    assert torch.equal(NoiseField(7, 1, 4).read(window), first)
    assert not torch.equal(NoiseField(8, 1, 4).read(window), first)
    assert not torch.equal(NoiseField(7, 2, 4).read(window), first)
    assert not torch.equal(NoiseField(7, 1, 4, Purpose.TEXTURE).read(window), first)


def test_noise_is_standard_normal_without_repeats_between_tiles() -> None:
    noise = NoiseField(0, 1, 4).read(Window(0, 0, 256, 256))
    assert abs(noise.mean().item()) < 0.01
    assert abs(noise.std().item() - 1) < 0.01
    neighbours = noise[:, :, 32:] * noise[:, :, :-32]
    assert abs(neighbours.mean().item()) < 0.01


def test_drawn_noise_equals_a_generator_of_the_seed() -> None:
    size = Size(40, 24)
    torch.manual_seed(123)
    noise = DrawnNoise(7, 4, size)
    expected = torch.randn(1, 4, 24, 40, generator=torch.Generator().manual_seed(7))[0]
    assert noise.channels == 4
    assert torch.equal(noise.read(size.window), expected)
    assert torch.equal(noise.read(Window(3, 5, 10, 20)), expected[:, 3:13, 5:25])
    assert DrawnNoise(2**70, 4, size).read(size.window).isfinite().all(), "whatever a seed is"


def test_noise_of_windows_in_row_order_is_generated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a canvas of which less than one row would fit into the cache otherwise."""
    made: list[tuple[int, int]] = []
    real = noise._tile

    def counted(key: Any, row: int, column: int) -> Any:
        made.append((row, column))
        return real(key, row, column)

    monkeypatch.setattr(noise, "_tile", counted)
    field = NoiseField(0, 1, 1, rows=Size(6000, 128))
    for top in (0, 118, 236, 340):
        for left in range(0, 6000 - 128, 118):
            field.read(Window(top, left, 128, 128))
    assert len(made) == len(set(made)) > 2 * noise.CACHED_TILES
