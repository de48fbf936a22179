"""What every canvas must do; a new one is added to ``CANVASES``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.canvas import MemoryCanvas
from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.denoise import Canvas

CANVASES: list[Callable[[int, Size], Canvas]] = [MemoryCanvas]
windows = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))


@pytest.mark.parametrize("new_canvas", CANVASES)
class TestCanvas:
    def test_is_zero_and_knows_its_size(self, new_canvas: Callable[[int, Size], Canvas]) -> None:
        canvas = new_canvas(3, Size(5, 4))
        assert canvas.size == Size(5, 4)
        assert torch.equal(canvas.read(canvas.size.window), torch.zeros(3, 4, 5))

    @given(places=st.lists(windows, max_size=6))
    def test_writes_and_adds_as_an_array_does(
        self, new_canvas: Callable[[int, Size], Canvas], places: list[tuple[int, int, int, int]]
    ) -> None:
        size, expected = Size(40, 40), torch.zeros(2, 40, 40)
        canvas = new_canvas(2, size)
        for i, place in enumerate(places):
            window = Window(*place)
            values = torch.randn(2, window.height, window.width, generator=torch.Generator().manual_seed(i))
            if i % 2:
                canvas.write(window, values)
                expected[(..., *window.slices)] = values
            else:
                canvas.add(window, values)
                expected[(..., *window.slices)] += values
            torch.testing.assert_close(canvas.read(window), expected[(..., *window.slices)])
        torch.testing.assert_close(canvas.read(size.window), expected)
