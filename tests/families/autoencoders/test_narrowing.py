"""A narrowed decoder gives what the whole one gives, with fewer operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderDC
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend

from pixelsmith.config.compute import Compute
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.families.autoencoders.narrowing import context_of
from pixelsmith.geometry import Size, Window


@pytest.fixture(scope="module")
def embedded() -> Family:
    folder = find_model(EMBEDDED)
    return load_family(folder, read_facts(folder, EMBEDDED), Compute(dtype="float32"))


@settings(max_examples=15, deadline=None)
@given(edges=st.tuples(*[st.booleans()] * 4), more=st.integers(0, 3), height=st.integers(1, 6), width=st.integers(1, 6))
def test_the_kept_part_of_a_tile_equals_the_whole_decoding(
    embedded: Family, edges: tuple[bool, bool, bool, bool], more: int, height: int, width: int
) -> None:
    """At the edges of a canvas there is no margin, and the network's own padding counts."""
    top, left, bottom, right = (0 if edge else embedded.facts.tiling.context + more for edge in edges)
    tile = torch.randn(
        1,
        embedded.facts.latent_channels,
        top + height + bottom,
        left + width + right,
        generator=torch.Generator().manual_seed(0),
    )
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
def test_decoding_skips_unneeded_context_and_leaves_the_decoder_unchanged(embedded: Family) -> None:
    context = embedded.facts.tiling.context
    shape = (1, embedded.facts.latent_channels, 16 + 2 * context, 16 + 2 * context)
    tile = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = embedded.autoencoder.decode(tile)
    found = embedded.autoencoder.decode(tile, Window(context, context, 16, 16))
    assert (found == 0).all(1).float().mean() > 0.7
    assert torch.equal(embedded.autoencoder.decode(tile), before)


@torch.inference_mode()
def test_compiled_blocks_give_the_same_for_tiles_at_all_positions(embedded: Family) -> None:
    """By a backend that runs graphs as they are: to generate code takes longer than all tests."""
    folder, context = find_model(EMBEDDED), embedded.facts.tiling.context
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    compiled = load_family(folder, embedded.facts, Compute(dtype="float32", compile=True)).autoencoder
    plain, layout = embedded.autoencoder, replace(embedded.facts.tiling, side=2 * context + 8)
    limited = torch._dynamo.config.patch(fail_on_recompile_limit_hit=True)
    with limited, torch.compiler.set_stance(force_backend=counter):
        # Three rows of three tiles: square ones are traced with one side for both, others once more.
        for canvas in (Size(2 * context + 18, 2 * context + 18), Size(2 * context + 18, 2 * context + 24)):
            tiles = layout.tiles(canvas)
            latents = torch.randn(1, embedded.facts.latent_channels, canvas.height, canvas.width)
            assert len(tiles) == 9
            for index in range(9):
                window = tiles[index].window
                tile, kept = latents[(..., *window.slices)], tiles.kept(index).relative_to(window)
                torch.testing.assert_close(compiled.decode(tile, kept), plain.decode(tile, kept))
        decoders = counter.frame_count
        for width in (160, 192):
            pixels = torch.rand(1, 3, 160, width)
            torch.testing.assert_close(compiled.encode(pixels), plain.encode(pixels))
    assert 0 < decoders < counter.frame_count <= 12, "both halves are compiled, and not for each tile"


@torch.inference_mode()
@pytest.mark.parametrize("layers", [(0, 1), (1, 1), (0, 1, 2, 2), (0, 2, 3, 3), (1, 1, 2)])
def test_the_context_covers_the_receptive_field(layers: tuple[int, ...]) -> None:
    """A change of one latent, or of one pixel, is seen no further away than that."""
    torch.manual_seed(0)
    vae = AutoencoderDC(
        latent_channels=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=tuple(4 << i for i in range(len(layers))),
        decoder_block_out_channels=tuple(4 << i for i in range(len(layers))),
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((),) * len(layers),
        decoder_qkv_multiscales=((),) * len(layers),
    ).double()
    context, scale = context_of(vae.config), 2 ** (len(layers) - 1)
    side = 2 * context + 5
    middle = Window(context + 2, context + 2, 1, 1)
    for run, channels, unit in ((vae.decode, 4, 1), (vae.encode, 3, scale)):
        plain = torch.randn(1, channels, side * unit, side * unit, dtype=torch.float64)
        changed = plain.clone()
        changed[(..., *middle.scaled(unit).slices)] += 1
        outputs = [run(values)[0] for values in (plain, changed)]
        # Back to a cell for each latent, whatever the direction was.
        differs = torch.nn.functional.max_pool2d((outputs[0] - outputs[1]).abs().amax(1), scale // unit)[0] > 1e-12
        reach = (differs.nonzero() - (context + 2)).abs().max()
        assert reach <= context
        if run == vae.decode:
            assert reach >= context - 1
