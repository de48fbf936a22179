"""Windows across the edges of wrapping axes equal windows of a plane of repetitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.canvas import Array, MemorySpace, Mosaic, Part, Placed
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import LaidOver, Resized, read_continued
from pixelsmith.pixels.slider_map import LocalDetail, flatness_map
from pixelsmith.sampling.grid import Grid, ShiftedGrid, fixed_grid
from pixelsmith.sampling.noise import NoiseField, repeated
from pixelsmith.sampling.readable import read_wrapped
from pixelsmith.sampling.regional import Layers, Mask, Painted, Polygon

wraps = st.sampled_from([Wrap(x=True), Wrap(y=True), Wrap(x=True, y=True)])
sides = st.integers(4, 60)
places = st.integers(-150, 150)
lengths = st.integers(1, 90)


def numbered(size: Size) -> Array:
    return Array(torch.arange(size.area, dtype=torch.float32).reshape(1, size.height, size.width))


def on_plane(values: torch.Tensor, window: Window) -> torch.Tensor:
    """The same window of a plane of repetitions, read by explicit indices."""
    rows = torch.arange(window.top, window.bottom) % values.shape[-2]
    columns = torch.arange(window.left, window.right) % values.shape[-1]
    return values[:, rows][:, :, columns]


def on_axes(window: Window, size: Size, wrap: Wrap) -> Window:
    """A window at any position on the axes that wrap, and inside on the others."""
    top, height = (window.top, window.height) if wrap.y else (0, size.height)
    left, width = (window.left, window.width) if wrap.x else (0, size.width)
    return Window(top, left, height, width)


@given(width=sides, height=sides, wrap=wraps, top=places, left=places, rows=lengths, columns=lengths)
def test_windows_at_any_position_equal_those_of_the_plane(
    width: int, height: int, wrap: Wrap, top: int, left: int, rows: int, columns: int
) -> None:
    size = Size(width, height)
    window, source = on_axes(Window(top, left, rows, columns), size, wrap), numbered(size)
    found = read_wrapped(source.read, window, size, wrap)
    assert torch.equal(found, on_plane(source.read(size.window), window))
    noise = repeated(NoiseField(3, 1, 2), size, wrap)
    assert torch.equal(noise.read(window), on_plane(noise.read(size.window), window))


def mosaic_of(tiling: Grid, values: torch.Tensor) -> Mosaic:
    """A mosaic whose patches contain the plane's values in their windows."""
    mosaic = MemorySpace().open("canvas", tiling, len(values))
    for index in range(len(tiling)):
        mosaic.put(index, on_plane(values, tiling[index].window))
    return mosaic


@given(
    width=sides,
    height=sides,
    side=st.integers(12, 40),
    border=st.integers(0, 4),
    wrap=wraps,
    step=st.integers(0, 5),
    top=places,
    left=places,
)
def test_patches_cover_a_wrapping_axis(
    width: int, height: int, side: int, border: int, wrap: Wrap, step: int, top: int, left: int
) -> None:
    """Their weights add up to 1 everywhere, also for a patch that overlaps itself, and all patches have one size."""
    canvas = Size(width, height)
    most = wrap.padded(canvas, border)
    patch = Size(min(side, most.width), min(side, most.height))
    grid = ShiftedGrid(canvas, patch, border, seed=5, stage=1, wrap=wrap).patches(step)
    for tiling in (grid, grid.scaled(3), fixed_grid(canvas, side, 2 * border, border, wrap)):
        total = np.zeros((tiling.canvas.height, tiling.canvas.width))
        for found in tiling:
            assert found.weights.min() >= -1e-6
            rows = np.arange(found.window.top, found.window.bottom) % tiling.canvas.height
            columns = np.arange(found.window.left, found.window.right) % tiling.canvas.width
            np.add.at(total, np.ix_(rows, columns), found.weights)
        np.testing.assert_allclose(total, 1, atol=1e-5)
    assert {(found.window.width, found.window.height) for found in grid} == {(patch.width, patch.height)}
    assert Grid.from_dict(grid.to_dict()) == grid

    values = torch.randn(2, height, width, generator=torch.Generator().manual_seed(0))
    mosaic, window = mosaic_of(grid, values), on_axes(Window(top, left, 30, 20), canvas, wrap)
    assert torch.allclose(mosaic.read(window), on_plane(values, window), atol=1e-5)
    # The same bytes whichever window asks: sums of shares do not depend on it.
    assert torch.equal(mosaic.read(window), on_plane(mosaic.read(canvas.window), window))


@pytest.mark.parametrize("length", [8, 40, 64, 200])
def test_seams_move_on_wrapping_axes(length: int) -> None:
    canvas = Size(length, 32)
    coverage = ShiftedGrid(canvas, Size(min(48, length + 8), 32), 8, seed=0, stage=1, wrap=Wrap(x=True))
    firsts = {coverage.patches(step)[0].window.left for step in range(20)}
    assert len(firsts) > 4


@given(width=st.integers(6, 30), height=st.integers(6, 30), factor=st.integers(1, 4), wrap=wraps, shift=st.data())
def test_enlarging_commutes_with_rolling(
    width: int, height: int, factor: int, wrap: Wrap, shift: st.DataObject
) -> None:
    size = Size(width, height)
    values = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    down = shift.draw(st.integers(0, height)) if wrap.y else 0
    across = shift.draw(st.integers(0, width)) if wrap.x else 0
    target = Size(width * factor, height * factor)

    def enlarged(pixels: torch.Tensor) -> torch.Tensor:
        return Resized(Array(pixels), size, target, "lanczos", wrap=wrap).read(target.window)

    rolled = enlarged(values.roll((down, across), (1, 2)))
    assert torch.allclose(rolled, enlarged(values).roll((down * factor, across * factor), (1, 2)), atol=1e-5)


def test_a_picture_on_a_wrapping_axis_is_not_cropped_at_any_size() -> None:
    values = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1))
    target, last = Size(32, 32), Size(96, 64)

    def laid_over(pixels: torch.Tensor) -> torch.Tensor:
        ring = Wrap(x=True, y=True)
        return LaidOver(Array(pixels), Size(24, 16), target, "lanczos", after=(last,), wrap=ring).read(target.window)

    rolled = laid_over(values.roll((4, 6), (1, 2)))
    assert torch.allclose(rolled, laid_over(values).roll((8, 8), (1, 2)), atol=1e-5)


def test_without_wrapping_the_edges_do_not_match() -> None:
    values = torch.zeros(1, 16, 16)
    values[:, :, 12:] = 255
    target = Size(64, 64)
    open_, closed = (
        Resized(Array(values), Size(16, 16), target, "bicubic", wrap=wrap).read(target.window)
        for wrap in (NO_WRAP, Wrap(x=True))
    )
    assert open_[0, 0, 0] == 0
    assert closed[0, 0, 0] > 50, "the bright edge is beside it"


def test_local_detail_and_flatness_wrap() -> None:
    wrap, size = Wrap(True, True), Size(64, 64)
    pixels = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    pixels[:, 16:48] //= 8
    rolled = pixels.roll((8, 24), (1, 2))
    one, other = (LocalDetail(Array(values), 8, wrap).read(Window(0, 0, 8, 8)) for values in (pixels, rolled))
    assert torch.allclose(other, one.roll((1, 3), (1, 2)), atol=1e-3)
    one, other = (
        flatness_map(Array(values), size.scaled(2), 8, wrap).read(Window(0, 0, 16, 16)) for values in (pixels, rolled)
    )
    assert torch.allclose(other, one.roll((2, 6), (1, 2)), atol=1e-3)


@given(wrap=wraps, top=places, left=places, feather=st.integers(0, 20))
def test_shares_of_regions_equal_those_of_the_plane(wrap: Wrap, top: int, left: int, feather: int) -> None:
    picture = Size(96, 64)
    corners = [(70, 10), (96, 10), (96, 40), (70, 40)]
    grey = torch.zeros(16, 24, dtype=torch.uint8)
    grey[:5, :9] = 255
    masks: list[Mask] = [Polygon(corners, feather, picture, wrap), Painted(grey, picture, wrap)]
    layers = Layers(masks, [1, 0.5], picture, wrap=wrap)
    # As much as all of it, so that the same regions count.
    window = on_axes(Window(top, left, 64, 96), picture, wrap)
    found = layers.shares(window)
    assert torch.allclose(found.sum(0), torch.ones(window.height, window.width))
    assert torch.allclose(found, on_plane(layers.shares(picture.window), window), atol=1e-5)


def test_a_region_across_the_edge_is_in_the_patches_of_both_edges() -> None:
    picture, wrap = Size(96, 64), Wrap(x=True)
    layers = Layers([Polygon([(86, 0), (106, 0), (106, 64), (86, 64)], 0, picture, wrap)], [1], picture, wrap=wrap)
    for window in (Window(0, 0, 32, 32), Window(0, 64, 32, 32), Window(0, -16, 32, 32)):
        assert torch.allclose(layers.shares(window), on_plane(layers.shares(picture.window), window), atol=1e-5)


def test_the_ramp_of_a_region_at_the_edge_continues_at_the_opposite_one() -> None:
    picture = Size(96, 64)
    corners = [(70, 0), (96, 0), (96, 64), (70, 64)]
    open_, closed = (
        Polygon(corners, 16, picture, wrap)(torch.arange(96.0) + 0.5, torch.tensor([32.5]))[0]
        for wrap in (NO_WRAP, Wrap(x=True))
    )
    assert open_[-1] == 1
    assert open_[0] == 0
    assert closed[-1] == pytest.approx(0.5, abs=0.05)
    assert closed[0] == pytest.approx(0.5, abs=0.05)


@given(wrap=wraps, top=places, left=places, height=lengths, width=lengths)
def test_known_values_across_an_edge_are_read(wrap: Wrap, top: int, left: int, height: int, width: int) -> None:
    size = Size(40, 30)
    source, other = numbered(size), Array(torch.full((1, 30, 40), -1.0))
    known = on_axes(Window(-7, 28, 20, 30), size, wrap)
    part = Array(read_continued(source, known, wrap))
    window = on_axes(Window(top, left, height, width), size, wrap)
    placed = Placed(part, known, known, _Plane(other, wrap), wrap)
    inside = torch.zeros(1, 30, 40, dtype=torch.bool)
    rows, columns = torch.arange(known.top, known.bottom) % 30, torch.arange(known.left, known.right) % 40
    inside[:, rows[:, None], columns] = True
    expected = torch.where(inside, source.read(size.window), -1.0)
    assert torch.equal(placed.read(window), on_plane(expected, window))


def test_a_part_across_the_edge() -> None:
    size, wrap = Size(10, 8), Wrap(True, True)
    plane = _Plane(numbered(size), wrap)
    assert torch.equal(Part(plane, Window(-3, 7, 5, 6)).read(Window(1, 1, 3, 4)), plane.read(Window(-2, 8, 3, 4)))


class _Plane:
    """A canvas that wraps on both axes, like a mosaic that wraps."""

    def __init__(self, whole: Array, wrap: Wrap) -> None:
        self.whole, self.wrap, self.size = whole, wrap, whole.size

    def read(self, window: Window) -> torch.Tensor:
        return read_wrapped(self.whole.read, window, self.size, self.wrap)
