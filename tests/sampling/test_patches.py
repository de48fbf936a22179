from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.sampling.grid import ShiftedGrid, fixed_grid
from pixelsmith.sampling.patches import Patch, fewest_patches
from pixelsmith.sampling.scattered import COVERAGES, RandomCoverage, _feathered

sides = st.integers(4, 70)


def summed(patches: Iterable[Patch], canvas: Size) -> np.ndarray:
    total = np.zeros((canvas.height, canvas.width), np.float64)
    for patch in patches:
        total[patch.window.slices] += patch.weights
    return total


@pytest.mark.parametrize("name", COVERAGES)
@given(width=sides, height=sides, side=st.integers(6, 20), border=st.integers(0, 6), step=st.integers(0, 5))
def test_weights_are_a_partition_of_unity(
    name: str, width: int, height: int, side: int, border: int, step: int
) -> None:
    canvas, patch = Size(width, height), Size(min(side, width), min(side, height))
    coverage = COVERAGES[name](canvas, patch, min(border, side // 3), seed=5, stage=1)
    patches = coverage.patches(step)
    assert len(patches) == coverage.count(step)
    for found in patches:
        assert (found.window.width, found.window.height) == (patch.width, patch.height)
        assert found.weights.min() >= -1e-6
        assert found.window.cut(canvas) == found.window
    np.testing.assert_allclose(summed(patches, canvas), 1, atol=1e-5)


@given(width=sides, height=sides, side=st.integers(8, 40), context=st.integers(0, 3))
def test_fixed_tiles_are_a_partition_of_unity(width: int, height: int, side: int, context: int) -> None:
    canvas = Size(width, height)
    for border in (0, context):
        tiles = fixed_grid(canvas, side, 2 * context, border)
        np.testing.assert_allclose(summed(tiles, canvas), 1, atol=1e-5)
        for axis, length in ((tiles.rows, height), (tiles.columns, width)):
            assert axis.side <= side
            assert all(left + axis.side - right >= 2 * context for left, right in pairwise(axis.starts))
            spare = len(axis.starts) * axis.side - (len(axis.starts) - 1) * 2 * context - length
            assert spare < len(axis.starts), "no tile is longer than it needs to be"


@pytest.mark.parametrize("name", COVERAGES)
def test_the_same_key_gives_the_same_patches_and_steps_differ(name: str) -> None:
    def windows(seed: int, stage: int, step: int) -> list[object]:
        return [patch.window for patch in COVERAGES[name](Size(80, 80), Size(16, 16), 2, seed, stage).patches(step)]

    assert windows(1, 1, 3) == windows(1, 1, 3)
    for other in ((2, 1, 3), (1, 2, 3), (1, 1, 4)):
        assert windows(1, 1, 3) != windows(*other)


@pytest.mark.parametrize(("side", "border"), [(128, 10), (32, 2)])
@pytest.mark.parametrize(("patches", "limit"), [(4, 1.6), (16, 1.3), (31, 1.3)])
def test_the_grid_needs_few_more_patches_than_the_minimum(side: int, border: int, patches: int, limit: float) -> None:
    canvas, patch = Size(side * patches, side * patches), Size(side, side)
    grid = ShiftedGrid(canvas, patch, border, seed=0, stage=1)
    assert max(grid.count(step) for step in range(50)) / fewest_patches(canvas, patch) <= limit


def test_random_coverage_needs_as_many_patches_as_in_the_paper() -> None:
    canvas, patch = Size(512, 512), Size(32, 32)
    coverage = RandomCoverage(canvas, patch, 10, seed=0, stage=1)
    ratio = np.mean([coverage.count(step) for step in range(5)]) / fewest_patches(canvas, patch)
    assert ratio == pytest.approx(2.2, abs=0.1)


@given(length=st.integers(44, 400))
def test_seams_move_from_step_to_step(length: int) -> None:
    """The borders of patches are not at the same places for many steps, at any length of the canvas."""
    grid = ShiftedGrid(Size(length, 32), Size(32, 32), 0, seed=0, stage=1)
    cuts = [
        tuple(patch.window.left + int(np.argmax(patch.weights[0])) for patch in grid.patches(step))
        for step in range(20)
    ]
    assert len(set(cuts)) >= 4


def test_random_patches_meet_along_ramps() -> None:
    """Between neighbouring latents no weight changes by more than a step of the ramp, except where a patch ends within
    it.
    """
    border, canvas = 4, Size(160, 160)
    patches = RandomCoverage(canvas, Size(32, 32), border, seed=0, stage=1).patches(0)
    shares = np.zeros((len(patches), canvas.height, canvas.width), np.float32)
    for share, patch in zip(shares, patches, strict=True):
        share[patch.window.slices] = patch.weights
    for axis in (1, 2):
        moved = np.abs(np.diff(shares, axis=axis)).max(0)
        assert np.mean(moved > 0) > 0.15
        assert np.mean(moved > 1 / border + 1e-6) < 0.02


@given(st.integers(17, 60), st.integers(17, 60), st.integers(0, 4), st.booleans(), st.booleans())
def test_random_patches_cover_a_wrapping_axis(width: int, height: int, border: int, x: bool, y: bool) -> None:
    """As on a plane; a window includes the patches that cross the edge."""
    canvas, wrap = Size(width, height), Wrap(x, y)
    patches = RandomCoverage(canvas, Size(16, 16), border, seed=0, stage=1, wrap=wrap).patches(0)
    found = np.zeros((height, width), np.float32)
    for seen in patches.images(canvas.window):
        for index in patches.touching(seen):
            inside = patches[index].window.common(seen)
            found[inside.relative_to(seen).slices] += patches.weights(index, inside)
    np.testing.assert_allclose(found, 1, atol=1e-5)
    over = (
        any(getattr(patch.window, end) > side for patch in patches)
        for end, side in (("right", width), ("bottom", height))
    )
    assert [*over] == [x, y]


def test_the_edges_of_a_wrapping_axis_are_covered_like_all_places() -> None:
    canvas = Size(64, 64)

    def cuts(wrap: Wrap) -> int:
        coverages = (RandomCoverage(canvas, Size(16, 16), 0, seed, 1, wrap) for seed in range(20))
        return sum(patch.window.left % 64 == 0 for coverage in coverages for patch in coverage.patches(0))

    # Of 64 places one is the edge; where nothing wraps all patches near it end there.
    assert cuts(Wrap(x=True)) < cuts(Wrap()) / 4


def test_without_a_border_patches_are_cut_without_averaging() -> None:
    for name, coverage in COVERAGES.items():
        for patch in coverage(Size(90, 70), Size(16, 16), 0, seed=0, stage=1).patches(0):
            assert set(np.unique(patch.weights)) <= {0.0, 1.0}, name


def test_the_order_of_summing_does_not_matter() -> None:
    canvas = Size(60, 60)
    patches = RandomCoverage(canvas, Size(16, 16), 3, seed=0, stage=1).patches(0)
    shuffled = random.Random(0).sample(list(patches), len(patches))
    np.testing.assert_allclose(summed(patches, canvas), summed(shuffled, canvas), atol=1e-6)


@pytest.mark.parametrize("name", COVERAGES)
@given(width=sides, height=sides, top=st.integers(0, 70), left=st.integers(0, 70), side=st.integers(1, 30))
def test_the_patches_that_touch_a_window_are_found(
    name: str, width: int, height: int, top: int, left: int, side: int
) -> None:
    canvas = Size(width, height)
    window = Window(min(top, height - 1), min(left, width - 1), side, side).cut(canvas)
    patches = COVERAGES[name](canvas, Size(min(16, width), min(16, height)), 2, seed=0, stage=1).patches(0)
    expected = [i for i, patch in enumerate(patches) if patch.window.overlaps(window)]
    assert list(patches.touching(window)) == expected
    for index, patch in enumerate(patches):
        kept = patches.kept(index)
        inside = np.zeros(patch.weights.shape, bool)
        inside[kept.relative_to(patch.window).slices] = True
        assert not patch.weights[~inside].any()
        assert Size(max(1, kept.width), max(1, kept.height)).fits_in(patches.largest)
        part = patch.window.common(window) if patch.window.overlaps(window) else patch.window
        whole = patch.weights[part.relative_to(patch.window).slices]
        np.testing.assert_array_equal(patches.weights(index, part), whole)


@given(width=sides, height=sides, border=st.sampled_from([0, 2, 4]), factor=st.integers(2, 8))
def test_a_scaled_grid_is_the_grid_at_a_higher_resolution(width: int, height: int, border: int, factor: int) -> None:
    grid = fixed_grid(Size(width, height), 16, 4, border)
    scaled = grid.scaled(factor)
    np.testing.assert_allclose(summed(scaled, scaled.canvas), 1, atol=1e-5)
    for before, after in zip(grid, scaled, strict=True):
        assert after.window == before.window.scaled(factor)
        blocks = after.weights.reshape(before.window.height, factor, before.window.width, factor)
        np.testing.assert_allclose(blocks.mean((1, 3)), before.weights, atol=0.13 if border else 0.5)


@given(data=st.data(), height=st.integers(1, 20), width=st.integers(1, 20), border=st.integers(0, 12))
def test_feathered_weights_are_the_largest_product_of_ramps(
    data: st.DataObject, height: int, width: int, border: int
) -> None:
    """By definition, over all pixels of the mask: one pair of pixels at a time."""
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    ramps = [np.clip(1 - (abs(away) - 0.5) / border, 0, 1) if border else float(away == 0) for away in range(21)]
    expected = np.zeros((height, width))
    for y, x in np.argwhere(mask):
        for (row, column), known in np.ndenumerate(expected):
            down, across = abs(row - y), abs(column - x)
            if max(down, across) <= border:
                expected[row, column] = max(known, ramps[down] * ramps[across])
    np.testing.assert_allclose(_feathered(mask, border), expected, atol=1e-6)
