"""Latents that a network enlarges window by window equal those that it enlarges whole."""

from __future__ import annotations

from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixelsmith.canvas import Array, MemorySpace, Part
from pixelsmith.engine import Serial
from pixelsmith.engine.doubled import Doubled, keep_doubled
from pixelsmith.families.family import DOUBLE
from pixelsmith.families.latent_upsamplers import NetworkLatentUpsampler
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.readable import Readable
from tests.tiny import build_latent_upsampler

SMALL = Size(23, 14)
CPU = torch.device("cpu")


@cache
def network() -> NetworkLatentUpsampler:
    return NetworkLatentUpsampler(build_latent_upsampler(), CPU)


@cache
def latents() -> Tensor:
    return torch.randn(4, SMALL.height, SMALL.width, generator=torch.Generator().manual_seed(0))


def doubled(times: int = 1, size: Size | None = None, wrap: Wrap = NO_WRAP, source: Readable | None = None) -> Doubled:
    size = size or SMALL.scaled(DOUBLE**times)
    return Doubled(source or Array(latents()), network(), times, size, wrap)


def test_a_value_depends_on_others_up_to_the_margin() -> None:
    model, first, last = build_latent_upsampler(), 12, 14
    x = torch.randn(1, 4, 28, 28, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[0, :, DOUBLE * first : DOUBLE * (last + 1)].square().sum(), x)
    seen = gradient.abs().amax((0, 1, 3)).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (first - model.margin, last + model.margin)


def test_a_new_network_interpolates() -> None:
    model = build_latent_upsampler()
    for values in model.last.parameters():
        torch.nn.init.zeros_(values)
    x = torch.randn(1, 4, 9, 7)
    assert torch.equal(model(x), F.interpolate(x, scale_factor=2, mode="bicubic"))


@pytest.mark.parametrize("times", [1, 2])
def test_the_whole_is_the_network_on_the_whole(times: int) -> None:
    expected = latents()[None]
    for _ in range(times):
        expected = network()(expected)
    found = doubled(times)
    assert torch.allclose(found.read(found.size.window), expected[0], atol=1e-5)


@given(st.integers(1, 2), st.integers(0, 91), st.integers(0, 55), st.integers(1, 40), st.integers(1, 40))
def test_windows_equal_the_whole(times: int, left: int, top: int, width: int, height: int) -> None:
    found = doubled(times)
    left, top = left % found.size.width, top % found.size.height
    window = Window(top, left, height, width).cut(found.size)
    whole = found.read(found.size.window)[(..., *window.slices)]
    assert torch.allclose(found.read(window), whole, atol=1e-5)


@given(st.integers(-40, 91), st.integers(-40, 55), st.integers(1, 30), st.integers(1, 30))
def test_where_the_canvas_wraps_the_repeated_canvas_is_seen(left: int, top: int, width: int, height: int) -> None:
    found, plane = doubled(1, wrap=Wrap(True, True)), doubled(source=Array(latents().repeat(1, 7, 7)))
    window = Window(top, left, height, width)
    there = Window(top + 3 * found.size.height, left + 3 * found.size.width, height, width)
    assert torch.allclose(found.read(window), plane.read(there), atol=1e-5)


def test_only_what_a_window_depends_on_is_read() -> None:
    """The memory that a window takes does not grow with the canvas."""
    found, window = doubled(2), Window(24, 40, 8, 8)
    assert found.sees(window) != SMALL.window
    part = Part(Array(latents()), found.sees(window))
    known = torch.full_like(latents(), torch.nan)
    known[(..., *found.sees(window).slices)] = part.read(part.size.window)
    seen = doubled(2, source=Array(known)).read(window)
    assert torch.equal(seen, found.read(window))


@pytest.mark.parametrize("wrap", [NO_WRAP, Wrap(x=True)])
def test_a_canvas_is_kept_tile_by_tile_and_only_what_is_missing_is_computed(wrap: Wrap) -> None:
    source = doubled(1, wrap=wrap)
    tiles = TileLayout(side=13, context=0, blend=0).tiles(source.size, wrap)
    kept, told = MemorySpace().open("guide", tiles, 4), list[tuple[int, int]]()
    kept.put(2, torch.zeros(4, tiles[2].window.height, tiles[2].window.width))
    keep_doubled(source, kept, tiles, CPU, lambda *done: told.append(done), Serial())
    assert len(told) == len(tiles) - 1
    expected = source.read(source.size.window).clone()
    expected[(..., *tiles.kept(2).slices)] = 0
    assert torch.allclose(kept.read(source.size.window), expected, atol=1e-5)
