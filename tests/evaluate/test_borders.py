"""Metrics of seams and repetitions on pictures with and without them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixelsmith.canvas import Array
from pixelsmith.evaluate.duplication import CELLS, autocorrelation, duplication_index, patch_likeness
from pixelsmith.evaluate.seams import Borders, seam_excess, seam_index
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import Resized
from pixelsmith.sampling.grid import ShiftedGrid, fixed_grid
from pixelsmith.sampling.patches import Patch
from pixelsmith.sampling.scattered import COVERAGES, Scattered

SCALE = 4
CANVAS = Size(40, 36)


def noise(side: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, side, side), np.uint8))


def test_borders_are_where_the_next_tile_begins() -> None:
    borders = Borders.of([fixed_grid(CANVAS, 16, 4, 0)], CANVAS, SCALE)
    assert borders.across.shape == (36, 39)
    assert borders.down.shape == (35, 40)
    # Tiles of 16 that overlap by 4 and meet in the middle of it: the first one keeps 14.
    assert np.flatnonzero(borders.across[0]).tolist() == [13, 25]
    assert (borders.across == borders.across[0]).all()


@pytest.mark.parametrize("name", COVERAGES)
def test_every_coverage_has_borders_and_most_places_have_none(name: str) -> None:
    patches = COVERAGES[name](CANVAS, Size(16, 16), 2, 0, 1).patches(0)
    borders = Borders.of([patches], CANVAS, SCALE)
    assert 0.01 < borders.across.mean() < 0.35
    assert 0.01 < borders.down.mean() < 0.35


def test_a_step_on_every_border_in_closed_form() -> None:
    """A slope of 1 per pixel on both axes with a step of 4 more at borders: 5 against 1."""
    borders = Borders.of([fixed_grid(CANVAS, 16, 4, 0)], CANVAS, SCALE)
    values = []
    for axis, mask in ((0, borders.down[:, 0]), (1, borders.across[0])):
        step = np.zeros((len(mask) + 1) * SCALE)
        step[(np.flatnonzero(mask) + 1) * SCALE] = 4
        values.append(np.expand_dims((1 + step).cumsum(), 1 - axis))
    picture = torch.from_numpy(values[0] + values[1]).float().expand(3, -1, -1)
    assert seam_index(Array(picture), borders) == pytest.approx(5)
    slope = (torch.arange(36 * SCALE)[:, None] + torch.arange(40 * SCALE)).float().expand(3, -1, -1)
    assert seam_excess(Array(picture), Array(slope), borders) == pytest.approx(5)
    assert seam_excess(Array(picture), Array(picture), borders) == 1


@pytest.mark.parametrize("name", COVERAGES)
def test_noise_has_no_seams(name: str) -> None:
    borders = Borders.of([COVERAGES[name](Size(64, 64), Size(16, 16), 2, 0, 1).patches(0)], Size(64, 64), SCALE)
    assert seam_index(Array(noise(256)), borders) == pytest.approx(1, abs=0.03)


def test_patches_of_different_brightness_have_seams() -> None:
    coverage = ShiftedGrid(Size(64, 64), Size(16, 16), 0, 0, 1).patches(0)
    picture = noise(256).float() / 8
    for i, patch in enumerate(coverage):
        kept = coverage.kept(i).scaled(SCALE)
        picture[(..., *kept.slices)] += 16 * (i % 3)
        assert patch.weights.max() == 1
    assert seam_index(Array(picture), Borders.of([coverage], Size(64, 64), SCALE)) > 1.3


def test_a_faint_seam_is_measured_against_the_same_picture_without_it() -> None:
    """Patches that differ by a few grey values under noise of 256, which is hardly significant in the picture alone."""
    coverage = ShiftedGrid(Size(64, 64), Size(16, 16), 0, 0, 1).patches(0)
    borders = Borders.of([coverage], Size(64, 64), SCALE)
    found = []
    for seed in range(6):
        plain = noise(256, seed).float()
        seamed = plain.clone()
        for i, _ in enumerate(coverage):
            seamed[(..., *coverage.kept(i).scaled(SCALE).slices)] += 4 * (i % 3)
        found.append((seam_index(Array(seamed), borders) - 1, seam_excess(Array(seamed), Array(plain), borders) - 1))
    by_itself, against = np.array(found).T
    assert by_itself.std() > 5 * against.std()
    assert (against > 0).all()


def test_a_change_of_contrast_everywhere_is_no_seam() -> None:
    picture, borders = noise(256).float(), Borders.of([fixed_grid(Size(64, 64), 16, 4, 0)], Size(64, 64), SCALE)
    assert seam_excess(Array(picture / 2), Array(picture), borders) == pytest.approx(1, abs=1e-6)
    alone = Borders.of([fixed_grid(Size(16, 16), 16, 4, 0)], Size(16, 16), SCALE)
    assert np.isnan(seam_excess(Array(noise(64)), Array(noise(64)), alone))


def test_both_ends_of_an_averaged_band_are_borders() -> None:
    """Random patches average a band in equal parts: the picture may have a step where it begins and where it ends."""
    weights = np.ones((2, 16, 24), np.float32)
    weights[0, :, 20:] = weights[1, :, :4] = 0.5
    pair = [Patch(Window(0, left, 16, 24), weights[i]) for i, left in enumerate((0, 20))]
    borders = Borders.of([Scattered(Size(44, 16), pair)], Size(44, 16), SCALE)
    assert np.flatnonzero(borders.across[0]).tolist() == [19, 23]
    assert not borders.down.any()


def test_a_picture_smaller_than_its_padded_canvas() -> None:
    borders = Borders.of([fixed_grid(CANVAS, 16, 4, 0)], CANVAS, SCALE)
    assert seam_index(Array(noise(160)[:, :141, :158]), borders) == pytest.approx(1, abs=0.2)


def test_without_borders_there_is_no_index() -> None:
    borders = Borders.of([fixed_grid(Size(16, 16), 16, 4, 0)], Size(16, 16), SCALE)
    assert np.isnan(seam_index(Array(noise(64)), borders))


def test_autocorrelation_equals_its_definition() -> None:
    x = np.random.default_rng(0).standard_normal((2, 9, 7)).astype(np.float32)
    found = autocorrelation(x)
    scaled = (x - x.mean((1, 2), keepdims=True)) / x.std((1, 2), keepdims=True)
    assert found[0, 6] == pytest.approx(1)
    assert found[2, 6 + 3] == pytest.approx((scaled[:, 2:, 3:] * scaled[:, :-2, :-3]).mean(), abs=1e-6)
    assert found[1, 6 - 2] == pytest.approx((scaled[:, 1:, :-2] * scaled[:, :-1, 2:]).mean(), abs=1e-6)


SPACING = 2 * CELLS


def smooth(seed: int) -> torch.Tensor:
    """A base of noise, enlarged four times."""
    base = Array(noise(64, seed))
    return Resized(base, base.size, Size(256, 256), "lanczos").read(Size(256, 256).window)


def index(picture: torch.Tensor, stride: int, base: torch.Tensor | None = None) -> float:
    base = smooth(9) if base is None else base
    return duplication_index(Array(picture), Array(base), SPACING, Size(stride, stride))


def test_an_enlarged_base_has_the_index_one() -> None:
    found = [index(smooth(seed), SPACING) for seed in range(8)]
    assert np.mean(found) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("period", [64, 60, 32])
@pytest.mark.parametrize("moved", [0, 1])
def test_a_tiled_picture_is_detected(period: int, moved: int) -> None:
    """The same patch everywhere, also with displaced copies: at a distance of a patch, of a stride, of half a patch."""
    tile, times = noise(period), 256 // period + 1
    rows = [torch.cat([tile.roll((moved * i, moved * j), (1, 2)) for j in range(times)], 2) for i in range(times)]
    tiled = torch.cat(rows, 1)[:, :256, :256]
    assert index(tiled, period) > 2.5
    assert index(tiled, period) > 2 * index(tiled, period * 3 // 2 + 5)


def test_repetitions_of_the_base_are_not_counted() -> None:
    """Fields and waves of the scene itself, to which the picture adds detail."""
    tiled = noise(SPACING).repeat(1, 4, 4)
    detailed = (tiled.float() + noise(256, 5).float()) / 2
    assert index(detailed, SPACING) > 2
    assert index(detailed, SPACING, tiled) < 1


def test_a_picture_of_one_patch_cannot_repeat_itself() -> None:
    picture = noise(SPACING)
    assert np.isnan(index(picture, SPACING, picture))


def likeness(picture: torch.Tensor, base: torch.Tensor) -> float:
    small, alone = (pixels.permute(1, 2, 0).numpy() for pixels in (picture, base))
    return patch_likeness(small, alone, 4, 4)


def test_likeness_of_parts_with_the_same_half_and_no_differences() -> None:
    """Parts of plain colours: as different as the base's, half as different, and all the same."""
    base = (2 * (noise(4) // 2)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert likeness(base, base) == 0
    assert likeness(base // 2 + 64, base) == pytest.approx(0.5)
    assert likeness(noise(16).repeat(1, 4, 4), base) == pytest.approx(1)
    assert likeness(base, base // 2) == 0


def test_subjects_in_every_patch_are_detected_at_any_position() -> None:
    """One bright square in the base; one in each patch, at positions without a common lag."""
    rng, (picture, base) = np.random.default_rng(1), torch.zeros(2, 3, 256, 256, dtype=torch.uint8)
    base[:, 70:110, 80:120] = 255
    for row, column in np.ndindex(4, 4):
        top, left = (64 * at + int(rng.integers(0, 44)) for at in (row, column))
        picture[:, top : top + 20, left : left + 20] = 255
    assert likeness(picture, base) > 0.9


def test_one_part_has_no_likeness() -> None:
    pixels = noise(64).permute(1, 2, 0).numpy()
    assert np.isnan(patch_likeness(pixels, pixels, 1, 1))
