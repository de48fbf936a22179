from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsmith.errors import RequestError
from pixelsmith.geometry import Size, Window, tiles

sizes = st.builds(Size, st.integers(1, 100), st.integers(1, 100))


@pytest.mark.parametrize(
    ("text", "size"),
    [("2048", Size(2048, 2048)), ("1536x1024", Size(1536, 1024)), (" 3 X 4 ", Size(3, 4)), ("5×6", Size(5, 6))],
)
def test_sizes_are_read_as_people_write_them(text: str, size: Size) -> None:
    assert Size.parse(text) == size
    assert Size.parse(str(size)) == size


@pytest.mark.parametrize("text", ["", "0", "0x5", "5x", "axb", "-3x4", "3.5", "1x2x3", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        Size.parse(text)


@given(bounds=sizes, side=st.integers(1, 40))
def test_tiles_cover_every_place_once(bounds: Size, side: int) -> None:
    places = [
        (row, column)
        for tile in tiles(bounds, side)
        for row in range(tile.top, tile.bottom)
        for column in range(tile.left, tile.right)
    ]
    assert len(places) == len(set(places)) == bounds.area


@given(size=sizes, multiple=st.integers(1, 32))
def test_padding_is_the_least_that_fits(size: Size, multiple: int) -> None:
    padded = size.padded(multiple)
    assert padded.width % multiple == padded.height % multiple == 0
    assert size.fits_in(padded)
    assert padded.width - size.width < multiple
    assert padded.height - size.height < multiple


def test_windows_grow_inside_their_bounds_and_scale() -> None:
    window = Window(2, 3, 4, 5)
    assert window.grown(3, Size(10, 8)) == Window(0, 0, 8, 10)
    assert window.scaled(8) == Window(16, 24, 32, 40)
    assert window.relative_to(Window(1, 1, 9, 9)) == Window(1, 2, 4, 5)
