"""Crops of neighbouring tiles: their place, their captions, and that they contain nothing held out."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import CAPTIONS
from training.batches import Batches
from training.data import PHOTO_CROPS, is_held_out
from training.mosaics import SYMMETRIES, Crop, Tile, crops_of, tiles_of, turned


def tiles(*captions: str) -> tuple[Tile, Tile, Tile, Tile]:
    a, b, c, d = (Tile(i, caption, False) for i, caption in enumerate(captions))
    return a, b, c, d


@pytest.mark.parametrize(
    ("left", "top", "side", "caption"),
    [
        (0, 0, 256, "a"),
        (256, 256, 256, "d"),
        (60, 0, 256, "a"),
        (128, 0, 256, None),
        (0, 200, 256, "c"),
        (0, 0, 512, None),
        (0, 100, 350, None),
    ],
)
def test_a_crop_has_the_caption_that_covers_most_of_it(left: float, top: float, side: float, caption: str) -> None:
    assert Crop(tiles("a", "b", "c", "d"), left, top, side, 0).caption() == caption


def test_the_areas_of_tiles_with_the_same_caption_are_added() -> None:
    assert Crop(tiles("a", "a", "a", "b"), 0, 0, 512, 0).caption() == "a"
    assert Crop(tiles("a", "a", "b", "b"), 0, 40, 500, 0).caption() is None


def test_a_crop_shows_its_parts_of_the_four_tiles() -> None:
    pictures = np.stack([np.full((256, 256, 3), 60 * i, np.uint8) for i in range(4)])
    whole, upper = (Crop(tiles(*"abcd"), 0, 0, side, 0).pixels(pictures) for side in (512, 256))
    assert [int(whole[y, x, 0]) for y, x in product((50, 200), (50, 200))] == [0, 60, 120, 180]
    assert not upper.any()
    right = Crop(tiles(*"abcd"), 256, 128, 256, 4).pixels(pictures)
    assert [int(right[y, x, 0]) for y, x in product((50, 200), (50, 200))] == [60, 180, 60, 180], "mirrored"


def test_there_are_eight_flips_and_rotations_and_those_of_satellite_photos_keep_light_from_the_upper_left() -> None:
    square = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert len({turned(square, symmetry).tobytes() for symmetry in range(8)}) == 8
    assert len({turned(square, symmetry).shape for symmetry in range(8)}) == 1
    slope = np.add.outer(np.arange(4), np.arange(4)).astype(np.uint8)[..., None].repeat(3, -1)
    assert all(np.array_equal(turned(slope, symmetry), slope) for symmetry in SYMMETRIES["satellite"])


def test_crops_contain_no_held_out_tile_and_indices_are_those_of_the_unpacked_pictures() -> None:
    places = [(x, y) for x in range(32) for y in range(32)]
    rows = [{"style": "landscape", "file": "a.jpg", "caption": "photo"}] + [
        {"style": "satellite", "file": f"5_{x}_{y}.jpg", "caption": "desert"} for x, y in places
    ]
    found = tiles_of(rows)
    held_out = {PHOTO_CROPS + i for i, (x, y) in enumerate(places) if is_held_out("satellite", f"5_{x}_{y}.jpg")}
    assert 0 < len(held_out) < len(places)
    assert {tile.index for tile in found.values() if tile.held_out} == held_out
    used = {tile.index for crop, _, _ in crops_of(found) for tile in crop.tiles}
    assert used
    assert not used & held_out
    assert next(crops_of(found)) == next(crops_of(found)), "the same on every machine"


def test_batches_are_drawn_from_tiles_and_mosaics_but_only_tiles_are_held_out(work: Path, tmp_path: Path) -> None:
    (tmp_path / "records.csv").write_bytes((work / "records.csv").read_bytes())
    rows = "".join(f"{caption},{style},0\n" for style, caption in CAPTIONS.items())
    (tmp_path / "mosaics.csv").write_text("caption,style,held_out\n" + rows)
    np.save(tmp_path / "latents.npy", np.zeros((24, 16, 32, 32), np.float16))
    np.save(tmp_path / "mosaics.npy", np.ones((4, 16, 32, 32), np.float16))
    (tmp_path / "latents.json").write_text(json.dumps({"scaling_factor": 2.0}))
    batches = Batches(tmp_path, torch.device("cpu"), Path("src/pixelsmith/embedded/model"), mosaics=True)
    z, _ = batches.draw(np.random.default_rng(0), 32, 40)
    assert {float(x) for x in z[:, 0, 0, 0]} == {0.0, 2.0}
    held_out = torch.cat([z for z, _ in batches.held_out(5)])
    assert len(held_out) == 12
    assert not held_out.any()
