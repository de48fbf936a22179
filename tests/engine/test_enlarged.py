"""Pictures that an upsampler enlarges tile by tile equal those that it enlarges whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixelsmith import DeviceError
from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.engine import Serial
from pixelsmith.engine.enlarged import CONTEXT, TILE, Enlarged, enlarged_to, fill, passes_of, piece_side, seen_through
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Resized
from tests.upsamplers import Convolved, Cramped, Nearest

LARGE = Size(2 * TILE + 30, TILE + 40)


def picture_of(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, size.height, size.width), generator=generator, dtype=torch.uint8)


def levels(one: Tensor, other: Tensor) -> int:
    assert one.shape == other.shape
    return int((one.int() - other.int()).abs().max())


@dataclass
class Watched:
    """A picture that remembers which windows were read."""

    picture: Array
    read_windows: list[Window] = field(default_factory=list)

    @property
    def size(self) -> Size:
        return self.picture.size

    def read(self, window: Window) -> Tensor:
        self.read_windows.append(window)
        return self.picture.read(window)


@pytest.mark.parametrize("size", [LARGE, Size(40, 9)])
def test_tiles_equal_the_network_on_the_whole_picture(size: Size) -> None:
    pixels, network = picture_of(size), Convolved(3)
    found, whole = Enlarged(Array(pixels), network), network(pixels)
    assert found.size == Size(3 * size.width, 3 * size.height)
    assert levels(found.read(found.size.window), whole) <= 1, "sums of floats may be rounded otherwise"


@given(
    st.integers(0, 2 * LARGE.width - 1), st.integers(0, 2 * LARGE.height - 1), st.integers(1, 700), st.integers(1, 700)
)
def test_every_window_is_a_part_of_the_same_picture(left: int, top: int, width: int, height: int) -> None:
    pixels = picture_of(LARGE)
    found = Enlarged(Array(pixels), Nearest(2))
    window = Window(top, left, height, width).cut(found.size)
    whole = pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(found.read(window), whole[:, *window.slices])


@pytest.mark.parametrize("wrap", [Wrap(x=True), Wrap(y=True), Wrap(x=True, y=True)])
@pytest.mark.parametrize("size", [LARGE, Size(20, 12)])
def test_across_edges_that_wrap_it_goes_on(size: Size, wrap: Wrap) -> None:
    pixels, network, more = picture_of(size), Convolved(2), 8
    found = Enlarged(Array(pixels), network, wrap)
    around = pixels.float()[None]
    for axis, wraps in (((more, more, 0, 0), wrap.x), ((0, 0, more, more), wrap.y)):
        around = F.pad(around, axis, mode="circular") if wraps else around
    place = Window(2 * more * wrap.y, 2 * more * wrap.x, 2 * size.height, 2 * size.width)
    expected = network(around[0].to(torch.uint8))[:, *place.slices]
    assert levels(found.read(found.size.window), expected) <= 1


def test_a_tile_is_computed_once_for_neighbouring_windows() -> None:
    network = Convolved(2)
    found = Enlarged(Array(picture_of(LARGE)), network)
    for left in range(0, found.size.width - 100, 50):
        found.read(Window(0, left, 100, 100))
    assert network.calls == 3


def test_a_tile_without_room_is_named() -> None:
    with pytest.raises(DeviceError, match="no memory for a tile of the upsampler"):
        Enlarged(Array(picture_of(LARGE)), Cramped(Convolved(2), 20)).read(Window(0, 0, 9, 9))


def test_threads_that_read_at_once_share_the_tiles() -> None:
    network, pixels = Convolved(2), picture_of(LARGE)
    found = Enlarged(Array(pixels), network)
    windows = [Window(top, 200, 90, 700) for top in range(0, 480, 20)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(found.read, windows))
    assert network.calls == 4
    whole = network(pixels)
    assert all(levels(part, whole[:, *window.slices]) <= 1 for part, window in zip(parts, windows, strict=True))


@pytest.mark.parametrize("wrap", [NO_WRAP, Wrap(x=True)])
def test_tiles_that_are_stored_are_those_that_are_read(wrap: Wrap) -> None:
    found = enlarged_to(
        Size(4 * LARGE.width, 4 * LARGE.height), Array(picture_of(LARGE)), "lanczos", Convolved(2), wrap
    )
    window, said = Window(900, 0, 300, 200), list[tuple[int, int]]()
    first: Any = found.source
    source: Any = first.source.source
    for number, (one, around) in enumerate(passes_of(found, window)):
        stored = replace(one, source=source)
        kept = MemorySpace().open(f"pass-{number}", stored.tiles, 3, torch.uint8, stored.size)
        fill(kept, stored, around, lambda done, total: said.append((done, total)), Serial())
        source = kept
    assert torch.equal(replace(found, source=source).read(window), found.read(window))
    assert not source.complete, "only what the window needs"
    assert said[-1][0] == said[-1][1]


@pytest.mark.parametrize(
    ("target", "scale", "passes"),
    [(Size(60, 40), 2, 0), (Size(65, 43), 2, 0), (Size(120, 80), 2, 1), (Size(121, 81), 2, 1), (Size(90, 60), 4, 1),
     (Size(200, 133), 2, 2), (Size(1000, 600), 4, 2)],
)  # fmt: skip
def test_it_is_repeated_until_the_size_is_reached(target: Size, scale: int, passes: int) -> None:
    picture = Array(picture_of(Size(60, 40)))
    found = enlarged_to(target, picture, "lanczos", Nearest(scale))
    assert found.source.size == Size(60 * scale**passes, 40 * scale**passes)
    assert found.read(target.window).shape == (3, target.height, target.width)
    plain = Resized(found.source, found.source.size, target, "lanczos")
    assert torch.equal(found.read(target.window), plain.read(target.window))


@given(st.data())
def test_it_reads_no_more_than_it_says(data: st.DataObject) -> None:
    wrap = Wrap(data.draw(st.booleans()), data.draw(st.booleans()))
    source = Watched(Array(torch.zeros(3, LARGE.height, LARGE.width, dtype=torch.uint8)))
    target = Size(5 * LARGE.width // 2, 5 * LARGE.height // 2)
    found = enlarged_to(target, source, "lanczos", Nearest(data.draw(st.sampled_from((2, 3)))), wrap)
    window = Window(data.draw(st.integers(0, target.height - 50)), data.draw(st.integers(0, target.width - 50)), 50, 50)
    found.read(window)
    seen = seen_through(found, window)
    allowed = [piece for row in wrap.pieces(seen, LARGE) for piece in row]
    marks = torch.zeros(LARGE.height, LARGE.width, dtype=torch.bool)
    for piece in allowed:
        marks[piece.cut(LARGE).slices] = True
    assert all(marks[window.slices].all() for window in source.read_windows)
    # Rounded up to tiles, with the context of each pass.
    assert seen.width <= 2 * (TILE + 2 * CONTEXT) + 100


@pytest.mark.parametrize(("tile", "scale", "side"), [(None, 4, None), (288, 4, 128), (512, 4, 128), (1024, 4, 256)])
def test_pieces_are_at_least_four_times_their_context(tile: int | None, scale: int, side: int | None) -> None:
    assert piece_side(tile, scale) == side
