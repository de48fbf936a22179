"""Masked parts that are not changed."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.canvas import Array
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.mask import Feathered, Kept
from pixelsmith.pixels.resample import Resized

SIZE = Size(80, 60)


def noise(seed: int, channels: int = 3) -> Array:
    generator = torch.Generator().manual_seed(seed)
    return Array(torch.randint(0, 256, (channels, SIZE.height, SIZE.width), dtype=torch.uint8, generator=generator))


def halves(edge: int) -> Array:
    """White to the left of a column, black from it on."""
    grey = torch.zeros(3, SIZE.height, SIZE.width, dtype=torch.uint8)
    grey[:, :, :edge] = 255
    return Array(grey)


@given(st.integers(0, 40), st.integers(25, 55))
def test_masks_have_ramps_at_edges_only(width: int, edge: int) -> None:
    shares = Feathered(halves(edge), width).read(SIZE.window)[0]
    assert torch.equal(shares, shares[:1].expand_as(shares)), "along the edge nothing changes"
    row, reach = shares[0], width // 2
    assert row[: edge - reach].eq(1).all()
    assert row[edge + reach :].eq(0).all()
    steps = row[max(0, edge - reach - 1) : edge + reach + 1].diff()
    assert (steps + 1 / (2 * reach + 1)).abs().max() < 1e-5, "a straight line"


@given(
    st.integers(0, 59), st.integers(0, 79), st.integers(1, 60), st.integers(1, 80), st.integers(0, 30),
    st.integers(5, 90),
)  # fmt: skip
def test_windows_equal_those_of_the_whole(
    top: int, left: int, height: int, width: int, feather: int, side: int
) -> None:
    window = Window(top, left, height, width).cut(SIZE)
    small = Array(torch.randint(0, 2, (3, side, side), generator=torch.Generator().manual_seed(side)).byte() * 255)
    kept = Kept(noise(1), noise(2), Feathered(Resized(small, Size(side, side), SIZE, "bicubic"), feather))
    whole = kept.read(SIZE.window).int()
    assert (kept.read(window).int() - whole[(..., *window.slices)]).abs().max() <= 1


def test_white_is_changed_and_black_equals_the_original() -> None:
    refined, original = noise(1), noise(2)
    mixed = Kept(refined, original, Feathered(halves(40), 10)).read(SIZE.window)
    assert torch.equal(mixed[:, :, :35], refined.values[:, :, :35])
    assert torch.equal(mixed[:, :, 45:], original.values[:, :, 45:])
    between = torch.stack([refined.values, original.values])[..., 35:45]
    assert (mixed[:, :, 35:45] >= between.amin(0)).all()
    assert (mixed[:, :, 35:45] <= between.amax(0)).all()


def test_pixels_without_weight_are_not_read() -> None:
    class Untouchable:
        size = SIZE

        def read(self, window: Window) -> torch.Tensor:
            raise AssertionError("read for nothing")

    shares = Feathered(halves(40), 10)
    Kept(noise(1), Untouchable(), shares).read(Window(0, 0, 60, 35))
    Kept(Untouchable(), noise(2), shares).read(Window(0, 45, 60, 35))
