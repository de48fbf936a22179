"""Regions: their shares of each place, and the estimates that patches need for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch

from pixelsmith.config.regions import Region
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.region_masks import layers_of
from pixelsmith.sampling.denoiser import Batch
from pixelsmith.sampling.regional import Blended, Layers, Painted, Polygon, estimates_per_patch, owners_of
from pixelsmith.sampling.schedule import Level

PICTURE = Size(96, 64)
LEVEL = Level(0.6, 0.8, 0.5, 0.0)


@dataclass
class Constant:
    """A denoiser with a constant estimate that records its windows."""

    value: float
    asked: list[Window] = field(default_factory=list)

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        self.asked += windows
        return torch.full_like(x, self.value)


def polygon(*corners: tuple[float, float], feather: float = 0) -> Polygon:
    return Polygon(corners, feather, PICTURE)


def box(left: float, top: float, right: float, bottom: float, feather: float = 0) -> Polygon:
    return polygon((left, top), (right, top), (right, bottom), (left, bottom), feather=feather)


def painted() -> Painted:
    grey = torch.zeros(16, 24, dtype=torch.uint8)
    grey[4:12, 6:20] = 255
    grey[6, 6:9] = 100
    return Painted(grey, PICTURE)


def layers() -> Layers:
    star = polygon((10, 5), (90, 30), (12, 60), (40, 30), feather=9)
    return Layers([box(0, 0, 48, 64, feather=16), star, painted()], [1, 0.4, 0.8], PICTURE)


def test_shares_add_up_to_one_in_every_window() -> None:
    for window in (PICTURE.window, Window(3, 5, 16, 16), Window(40, 70, 40, 40)):
        shares = layers().shares(window)
        assert shares.shape == (4, window.height, window.width)
        assert shares.min() >= 0
        assert torch.allclose(shares.sum(0), torch.ones(window.height, window.width), atol=1e-6)


def test_shares_do_not_depend_on_the_window() -> None:
    """For regions that count everywhere."""
    whole, window = layers().shares(PICTURE.window), Window(8, 20, 48, 56)
    assert torch.equal(layers().shares(window), whole[(..., *window.slices)])


def test_the_areas_of_boxes_and_polygons() -> None:
    shares = Layers([box(10, 20, 30, 40)], [1], PICTURE).shares(PICTURE.window)[1]
    expected = torch.zeros(64, 96)
    expected[20:40, 10:30] = 1
    assert torch.equal(shares, expected)
    triangle = Layers([polygon((0, 0), (96, 0), (0, 64))], [1], PICTURE).shares(PICTURE.window)[1]
    assert triangle.mean().item() == pytest.approx(0.5, abs=0.01)
    assert triangle[5, 5] == 1
    assert triangle[-5, -5] == 0


def test_regions_have_ramps_except_at_the_edges_of_the_picture() -> None:
    shares = Layers([box(0, 0, 48, 64, feather=16)], [1], PICTURE).shares(PICTURE.window)[1]
    assert (shares[:, :40] == 1).all()
    assert (shares[:, 56:] == 0).all()
    assert torch.allclose(shares[0, 40:56], 1 - (torch.arange(16) + 0.5) / 16)


def test_a_painted_mask_is_stretched_over_the_picture() -> None:
    shares = Layers([painted()], [1], PICTURE).shares(PICTURE.window)[1]
    assert (shares[40:46, 40:60] == 1).all()
    assert (shares[:10] == 0).all()
    # An eighth of the way from the middle of a grey row to that of a white one.
    assert shares[26, 28] == pytest.approx((7 * 100 + 255) / 8 / 255, abs=0.01)


def test_a_region_counts_where_its_box_covers_a_tenth_of_a_patch() -> None:
    own, patch = Layers([box(0, 0, 48, 64)], [1], PICTURE), Size(16, 16)
    assert own.shares(Window(0, 47, patch.height, patch.width))[1].sum() == 0, "a sixteenth of the patch"
    assert own.shares(Window(0, 46, patch.height, patch.width))[1].sum() == 32, "an eighth"


def test_a_region_smaller_than_a_patch_is_used() -> None:
    own = Layers([box(40, 20, 44, 24)], [1], PICTURE)
    assert own.shares(PICTURE.window)[1].sum() == 16


def test_a_patch_is_evaluated_for_the_prompts_of_its_regions_only() -> None:
    rest, left = Constant(1), Constant(3)
    own = Blended([rest, left], Layers([box(0, 0, 48, 64)], [1], PICTURE), (0, 1))
    inside, across, outside = Window(0, 0, 16, 16), Window(0, 40, 16, 16), Window(30, 70, 16, 16)
    found = own(torch.zeros(3, 4, 16, 16), LEVEL, [inside, across, outside])
    assert rest.asked == [across, outside]
    assert left.asked == [inside, across]
    assert (found[0] == 3).all()
    assert (found[1, :, :, :8] == 3).all()
    assert (found[1:, :, :, 8:] == 1).all()


def test_layers_of_one_text_share_an_estimate() -> None:
    owners = owners_of(["a map", "a sea", "a map"])
    assert owners == (0, 1, 0)
    one, other = Constant(2), Constant(4)
    own = Layers([box(0, 0, 48, 64), box(0, 0, 96, 64)], [1, 0.5], PICTURE)
    found = Blended([one, other], own, owners)(torch.zeros(1, 4, 64, 96), LEVEL, [PICTURE.window])
    assert len(one.asked) == len(other.asked) == 1
    assert torch.equal(found[0, 0, 0, [0, 95]], torch.tensor([3.0, 2.0]))


def test_estimates_per_patch_are_counted_on_the_canvas() -> None:
    own = Layers([box(0, 0, 48, 64)], [1], PICTURE)
    assert estimates_per_patch(own, (0, 1), PICTURE, PICTURE) == 2
    assert 1.05 < estimates_per_patch(own, (0, 1), PICTURE, Size(16, 16)) < 1.3
    assert estimates_per_patch(own, (0, 0), PICTURE, Size(16, 16)) == 1


def test_regions_keep_their_place_if_stages_are_cropped() -> None:
    """A square lower stage shows more above and below than a wide picture does."""
    region = Region("a sea", box=(0, 0, 50, 100), unit="percent", feather=0)
    found = layers_of([region], Size(256, 128), {0: Size(64, 64), 1: Size(128, 64)}, 4)
    for number, canvas in ((0, Size(16, 16)), (1, Size(32, 16))):
        shares = found[number].shares(canvas.window)[1]
        assert (shares[:, : canvas.width // 2] == 1).all()
        assert (shares[:, canvas.width // 2 :] == 0).all()
    top = Region("a sea", box=(0, 0, 100, 25), unit="percent", feather=0)
    shares = layers_of([top], Size(256, 128), {0: Size(64, 64), 1: Size(128, 64)}, 4)[0].shares(Window(0, 0, 16, 16))[1]
    # The middle half of the square is the picture; its upper quarter is two of 16 rows.
    assert shares[:, 0].tolist() == [1.0] * 6 + [0.0] * 10
