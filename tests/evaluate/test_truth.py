"""The truth set: tiles by position, with their parts at finer zooms."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelsmith.evaluate.truth import load_truth
from training.truth import Planet, Row, sets, write_sets

COAST, TOWN = "watercolor map of a coast", "night photo from space of a town"


@pytest.fixture
def planet(tmp_path: Path) -> Planet:
    """A coast at zoom 4 with all of zoom 5 and one of 6 and 7; a town at zoom 5 with two of 6 and one of 7 and 8. Each
    tile is plain: its grey value is its number.
    """
    places = [
        ("watercolor", COAST, 4, 3, 2), ("watercolor", "a", 5, 6, 4), ("watercolor", "b", 5, 7, 4),
        ("watercolor", "c", 5, 6, 5), ("watercolor", "d", 5, 7, 5), ("watercolor", "e", 6, 15, 11),
        ("night", TOWN, 5, 1, 1), ("night", "f", 6, 2, 2), ("night", "g", 6, 3, 3), ("night", "h", 7, 7, 4),
        ("watercolor", "i", 7, 25, 17), ("night", "j", 8, 9, 10),
    ]  # fmt: skip
    rows: list[Row] = [
        {"archive": f"{style}.zip", "file": f"{style}/{zoom}_{x}_{y}.png", "caption": caption, "style": style,
         "zoom": str(zoom)}
        for style, caption, zoom, x, y in places
    ]  # fmt: skip
    rows.append({"archive": "p.zip", "file": "p.jpg", "caption": "a photo", "style": "landscape", "zoom": ""})
    for i, row in enumerate(rows):
        file = io.BytesIO()
        Image.new("RGB", (256, 256), (10 * i,) * 3).save(file, "PNG")
        with zipfile.ZipFile(tmp_path / row["archive"], "a") as archive:
            archive.writestr(row["file"], file.getvalue())
    return Planet(rows, tmp_path)


def test_patches_are_inside_their_tile_at_finer_zooms(planet: Planet) -> None:
    assert {planet.tiles[place]["caption"] for place in planet.details(COAST, 2)} == {"a", "b", "c", "d"}
    assert [planet.tiles[place]["caption"] for place in planet.details(COAST, 4)] == ["e"]
    assert {planet.tiles[place]["caption"] for place in planet.details(TOWN, 2)} == {"f", "g"}
    assert [planet.tiles[place]["caption"] for place in planet.details(TOWN, 4)] == ["h"]


def test_a_mosaic_is_complete_or_left_out(planet: Planet) -> None:
    found = planet.mosaic(("watercolor", 4, 3, 2), 2)
    assert found is not None
    assert found.shape == (512, 512, 3)
    assert [[found[y, x, 0] for x in (0, 511)] for y in (0, 511)] == [[10, 20], [30, 40]]
    assert planet.mosaic(("night", 5, 1, 1), 2) is None


def test_every_prompt_has_the_same_number_of_pictures(planet: Planet, tmp_path: Path) -> None:
    """As many as the prompt with the fewest."""
    assert {name: len(places) for name, places in sets(planet, [COAST, TOWN])} == {
        "whole": 2, "patches-2x": 4, "patches-4x": 2, "patches-8x": 2,
    }  # fmt: skip
    write_sets(planet, [COAST, TOWN], tmp_path)
    truths = {factor: load_truth(tmp_path, 256, factor) for factor in (2.0, 4.0)}
    assert {factor: len(truth.patches) for factor, truth in truths.items()} == {2.0: 4, 4.0: 2}
    assert sorted(int(np.mean(truths[4.0].patches[i])) for i in range(2)) == [50, 90]


def test_a_set_of_which_a_prompt_has_no_tiles_is_left_out(
    planet: Planet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth").mkdir()
    write_sets(planet, [COAST, "a"], tmp_path / "truth")
    left_out = capsys.readouterr().out.count("left out")
    assert left_out > 0
    assert len(list((tmp_path / "truth").iterdir())) == 4 - left_out
