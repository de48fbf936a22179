"""Canvases that are filled tile by tile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pixelsmith.canvas import Array, MemorySpace, Mosaic
from pixelsmith.engine.executor import Serial
from pixelsmith.engine.filling import Filling, copied
from pixelsmith.errors import DeviceError
from pixelsmith.geometry import Size
from pixelsmith.sampling.grid import TileLayout

TILES = TileLayout(side=8, context=0, blend=0).tiles(Size(20, 16))
"""Two rows of three tiles."""


def canvas() -> Mosaic:
    return MemorySpace().open("canvas", TILES, 1)


def numbered(index: int) -> Tensor:
    """A tile full of its number."""
    window = TILES[index].window
    return torch.full((1, 1, window.height, window.width), float(index))


def same(values: Tensor) -> Tensor:
    return values


def test_of_the_needed_tiles_those_that_are_missing_are_computed() -> None:
    kept, told, read = canvas(), list[tuple[int, int]](), list[int]()

    def noted(index: int) -> Tensor:
        read.append(index)
        return numbered(index)

    kept.put(3, -numbered(3)[0])
    filling = Filling(kept, TILES, "a tile", "try", noted, same, needed={4, 1, 3})
    filling.run(lambda *done: told.append(done), Serial())
    assert read == [1, 4]
    assert told == [(1, 3), (3, 3)]
    assert (kept.read(TILES.kept(3)) == -3).all()
    assert (kept.read(TILES.kept(4)) == 4).all()
    assert [index for index in range(len(TILES)) if index in kept] == [1, 3, 4]


def test_an_error_says_where_it_happened() -> None:
    def broken(index: int) -> Tensor:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone") as caught:
        Filling(canvas(), TILES, "a tile", "try", broken, same, needed=[4]).run(lambda *done: None, Serial())
    window = TILES[4].window
    assert caught.value.__notes__ == [f"to read tile 5 of 6 to try, at {window.left},{window.top} of 20x16"]


def test_a_tile_that_is_not_finite_is_refused() -> None:
    kept = canvas()
    filling = Filling(kept, TILES, "a tile of it", "try", lambda index: numbered(index) / 0, same)
    with pytest.raises(DeviceError, match="a tile of it is not finite"):
        filling.run(lambda *done: None, Serial())
    assert 0 not in kept


def test_a_source_is_copied_around_what_is_there() -> None:
    source, kept = torch.arange(320.0).reshape(1, 16, 20), canvas()
    kept.put(5, torch.zeros(numbered(5).shape[1:]))
    expected = source.clone()
    expected[(..., *TILES.kept(5).slices)] = 0
    assert torch.equal(copied(Array(source), kept, TILES).read(Size(20, 16).window), expected)
