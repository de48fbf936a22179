"""A narrowed decoder gives what the whole one gives, with fewer operations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.geometry import Window
from pixelsmith.request import EMBEDDED, Compute

CONTEXT = 12


@pytest.fixture(scope="module")
def embedded() -> Family:
    folder = find_model(EMBEDDED)
    return load_family(folder, read_facts(folder, EMBEDDED), Compute(dtype="float32"))


@settings(max_examples=15, deadline=None)
@given(
    margins=st.tuples(*[st.sampled_from([0, CONTEXT, CONTEXT + 3])] * 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_what_is_kept_of_a_tile_is_the_same(
    embedded: Family, margins: tuple[int, int, int, int], height: int, width: int
) -> None:
    """Margins of 0 are the edges of a canvas, where the network's own padding counts."""
    top, left, bottom, right = margins
    tile = torch.randn(1, 16, top + height + bottom, left + width + right, generator=torch.Generator().manual_seed(0))
    kept = Window(top, left, height, width)
    # A larger canvas around the tile, but not beyond its edges.
    grown = torch.nn.functional.pad(tile, [0 if margin == 0 else 5 for margin in (left, right, top, bottom)])
    y, x = (0 if margin == 0 else 5 for margin in (top, left))
    with torch.inference_mode():
        found = embedded.autoencoder.decode(tile, kept)
        whole = embedded.autoencoder.decode(grown)
    assert found.shape == (1, 3, 8 * tile.shape[-2], 8 * tile.shape[-1])
    pixels = kept.scaled(8)
    expected = whole[..., 8 * y : 8 * y + found.shape[-2], 8 * x : 8 * x + found.shape[-1]]
    torch.testing.assert_close(found[(..., *pixels.slices)], expected[(..., *pixels.slices)], atol=2e-5, rtol=1e-5)


@torch.inference_mode()
def test_context_is_dropped_and_the_decoder_left_as_it_was(embedded: Family) -> None:
    tile = torch.randn(1, 16, 40, 40, generator=torch.Generator().manual_seed(0))
    before = embedded.autoencoder.decode(tile)
    found = embedded.autoencoder.decode(tile, Window(CONTEXT, CONTEXT, 16, 16))
    assert (found == 0).all(1).float().mean() > 0.7
    assert torch.equal(embedded.autoencoder.decode(tile), before)
