"""Looking at a picture while it is being made."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelsmith.canvas import DiskSpace, WithOverview
from pixelsmith.geometry import Size
from pixelsmith.pixels.zoomable import StagePicture
from pixelsmith.sampling.grid import fixed_grid

SCALE, GREY = 8, 128
places = st.floats(0, 1)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(30, 300),
    height=st.integers(30, 300),
    blend=st.sampled_from([0, 2]),
    there=st.sets(st.integers(0, 40)),
    corners=st.tuples(places, places, places, places),
    side=st.integers(1, 300),
)
def test_a_box_shows_finished_pixels_and_grey_elsewhere(
    width: int, height: int, blend: int, there: set[int], corners: tuple[float, ...], side: int
) -> None:
    size = Size(width, height)
    tiles = fixed_grid(size.padded(SCALE).divided(SCALE), 12, 4, blend)
    left, right = sorted(corner * width for corner in corners[:2])
    top, bottom = sorted(corner * height for corner in corners[2:])
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    box = (min(left, width - 1), min(top, height - 1), min(right, width), min(bottom, height))
    asked = Size(side, max(1, round(side * (box[3] - box[1]) / (box[2] - box[0]))) if box[2] > box[0] else 1)
    with TemporaryDirectory() as folder:
        space = DiskSpace(Path(folder))
        picture = WithOverview(
            space.open("stage-0/picture", tiles.scaled(SCALE), 3, torch.uint8, size),
            space.open("stage-0/overview", tiles, 3, torch.uint8, size.padded(SCALE).divided(SCALE)),
            SCALE,
        )
        for index in there & set(range(len(tiles))):
            window = tiles[index].window.scaled(SCALE)
            picture.put(index, torch.full((3, window.height, window.width), 250.0))
        picture.sync()
        seen = np.asarray(
            StagePicture.of(Path(folder) / "stage-0", None).look(box, Size(asked.width, min(asked.height, 400)))
        )
        space.close()
    assert set(np.unique(seen)) <= set(range(GREY, 251))
    if there >= set(range(len(tiles))):
        assert (seen == 250).all()
    if not there & set(range(len(tiles))):
        assert (seen == GREY).all()
