"""Held structure, compared with other formulations, and its guarantees for any latents."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.engine.bands import low_pass_bands
from pixelsmith.geometry import Size
from pixelsmith.sampling.merging import Bands, GuideAt, Held
from pixelsmith.sampling.merging.band import Band
from pixelsmith.sampling.merging.hold import held, local_rms, moderated
from pixelsmith.sampling.merging.low_pass import low_pass
from pixelsmith.sampling.schedule import Level

shapes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(4, 40), st.integers(4, 40))
factors = st.floats(1.5, 16)
positions = st.floats(0, 1)


def latents(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def bands(factor: float) -> Bands:
    """The bands of latents that differ by a low-pass."""
    return low_pass_bands(factor)


def everywhere(x: Tensor, position: float) -> Tensor:
    return torch.full((len(x), 1, *x.shape[2:]), position)


def mirrored_fourier_low_pass(x: Tensor, limit: float) -> Tensor:
    """The same filter as a Fourier transform of the patch and its mirror images, of twice the sides."""
    height, width = x.shape[-2:]
    mirrored = torch.cat([x, x.flip(-1)], -1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], -2).double()
    rows, columns = torch.fft.fftfreq(2 * height).double(), torch.fft.rfftfreq(2 * width).double()
    gain = torch.exp(-0.5 * ((rows[:, None] / limit) ** 4 + (columns[None] / limit) ** 4))
    low: Tensor = torch.fft.irfft2(torch.fft.rfft2(mirrored) * gain, s=mirrored.shape[-2:])
    return low[..., :height, :width].float()


@given(shape=shapes, limit=st.floats(0.01, 2))
def test_the_low_pass_equals_a_fourier_filter_with_mirrored_edges(shape: tuple[int, ...], limit: float) -> None:
    x = latents(shape)
    torch.testing.assert_close(low_pass(x, limit), mirrored_fourier_low_pass(x, limit), atol=1e-5, rtol=0)


def test_the_gain_of_a_wave_follows_from_its_frequency() -> None:
    """A cosine that fits the patch is an eigenvector: it is scaled by exp(-(ν/limit)⁴/2)."""
    waves, side, limit = 5, 32, 0.1
    wave = torch.cos(math.pi * waves / side * (torch.arange(side) + 0.5)).expand(1, 1, 4, side)
    expected = math.exp(-0.5 * (waves / (2 * side) / limit) ** 4)
    torch.testing.assert_close(low_pass(wave, limit), expected * wave, atol=1e-5, rtol=0)


@given(shape=shapes, position=positions, factor=factors)
def test_a_guide_that_equals_the_estimate_changes_nothing(
    shape: tuple[int, ...], position: float, factor: float
) -> None:
    x = latents(shape)
    assert torch.equal(held(x, x, everywhere(x, position), bands(factor)), x)


@given(shape=shapes, factor=factors)
def test_slider_zero_holds_nothing_and_one_holds_the_guides_band(shape: tuple[int, ...], factor: float) -> None:
    x, guide = latents(shape), latents(shape, 1)
    assert torch.equal(held(x, guide, everywhere(x, 0.0), bands(factor)), x)

    def mean(values: Tensor) -> Tensor:
        """A band with a sharp edge, as a projection."""
        return values.mean((2, 3), keepdim=True).expand_as(values)

    found = held(x, guide, everywhere(x, 1.0), lambda _: Band(mean, mean))
    torch.testing.assert_close(mean(found), mean(guide), atol=1e-5, rtol=0)
    torch.testing.assert_close(found - mean(found), x - mean(x), atol=1e-5, rtol=0)


@given(shape=shapes, position=st.floats(0.05, 1), factor=factors)
def test_the_mean_of_a_patch_is_the_guides(shape: tuple[int, ...], position: float, factor: float) -> None:
    """The mean of every patch is that of the guide."""
    x, guide = latents(shape), 2 + latents(shape, 1)
    found = held(x, guide, everywhere(x, position), bands(factor))
    torch.testing.assert_close(found.mean((2, 3)), guide.mean((2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [4.0, 6.5, 8.0])
def test_frequencies_resolved_below_are_held_and_finer_ones_are_free(factor: float) -> None:
    """At position 1 the limit is the shortest wave of the latents below, here 2·factor latents long."""
    side = 64
    places = torch.arange(side) + 0.5

    def wave(cycles: float) -> Tensor:
        return torch.cos(2 * math.pi * cycles * places).expand(1, 1, side, side)

    limit = 0.5 / factor
    coarse, fine = wave(round(limit / 4 * 2 * side) / (2 * side)), wave(round(limit * 3 * 2 * side) / (2 * side))
    found = held(torch.zeros_like(coarse), coarse + fine, everywhere(coarse, 1.0), bands(factor))
    rest_of_coarse = (found - coarse * (coarse * found).mean() / coarse.square().mean()).square().mean().sqrt()
    assert float((coarse * found).mean() / coarse.square().mean()) > 0.95
    assert float(rest_of_coarse) < 0.05


@given(position=positions, factor=st.floats(1.5, 4), top=st.integers(0, 8), left=st.integers(0, 8))
def test_results_do_not_depend_on_the_position_of_the_window(
    position: float, factor: float, top: int, left: int
) -> None:
    """Away from the edges of both, two windows have the same values at the same places."""
    position = min(max(position, 0.3), 0.8)
    x, guide, side = latents((1, 2, 72, 72)), latents((1, 2, 72, 72), 1), 64
    maps = position + 0.05 * torch.sin(torch.arange(72.0) / 9).expand(1, 1, 72, 72)
    inside = [slice(0, side), slice(top, top + side), slice(left, left + side)]
    first = held(x[..., inside[0], inside[0]], guide[..., :side, :side], maps[..., :side, :side], bands(factor))
    moved = [some[..., inside[1], inside[2]] for some in (x, guide, maps)]
    second = held(moved[0], moved[1], moved[2], bands(factor))
    far = 24
    torch.testing.assert_close(
        first[..., top + far : side - far, left + far : side - far],
        second[..., far : side - far - top, far : side - far - left],
        atol=1e-2,
        rtol=0,
    )


def test_a_slider_map_holds_one_half_and_frees_the_other() -> None:
    x, guide = latents((1, 2, 32, 32)), latents((1, 2, 32, 32), 1)
    maps = torch.zeros(1, 1, 32, 32)
    maps[..., :16] = 1
    found = held(x, guide, maps, bands(4.0))
    torch.testing.assert_close(found[..., :16], held(x, guide, everywhere(x, 1.0), bands(4.0))[..., :16])
    assert torch.equal(found[..., 16:], x[..., 16:])


@given(shape=shapes, factor=factors)
def test_moderation_does_not_change_textured_places_or_an_estimate_equal_to_the_guide(
    shape: tuple[int, ...], factor: float
) -> None:
    x, guide = latents(shape), latents(shape, 1)
    torch.testing.assert_close(moderated(x, guide, everywhere(x, 0.0), factor), x, atol=1e-5, rtol=0)
    torch.testing.assert_close(moderated(guide, guide, everywhere(x, 1.0), factor), guide, atol=1e-5, rtol=0)


@given(shape=shapes, factor=factors, times=st.floats(0, 30))
def test_moderation_only_attenuates_detail_and_keeps_the_low_band(
    shape: tuple[int, ...], factor: float, times: float
) -> None:
    guide = latents(shape, 1)
    departure = times * latents(shape)
    low = low_pass(departure, 0.5 / factor)
    kept = moderated(guide + departure, guide, everywhere(guide, 1.0), factor) - guide - low
    assert bool((kept.abs() <= (departure - low).abs() + 1e-3).all())
    assert bool((kept * (departure - low) >= -1e-3).all())


def test_detail_is_attenuated_by_its_excess_over_the_guides() -> None:
    """Four times as strong as the guide's band everywhere: 1, 1/4 and 1/16 of it are left."""
    places = torch.arange(32)
    guide = (1.0 - 2.0 * ((places[:, None] + places) % 2)).expand(1, 8, 32, 32)
    for flatness, left in ((0.0, 1.0), (0.5, 1 / 4), (1.0, 1 / 16)):
        kept = moderated(5 * guide, guide, everywhere(guide, flatness), 4.0) - guide
        inside = kept[..., 8:-8, 8:-8]
        torch.testing.assert_close(inside, left * 4 * guide[..., 8:-8, 8:-8], atol=0.02, rtol=0)


@pytest.mark.parametrize("factor", [4.0, 8.0])
def test_grain_near_a_strong_feature_is_measured(factor: float) -> None:
    """A local mean that rings would be negative around the island."""
    x = 0.1 * latents((1, 4, 96, 96))
    x[..., 44:52, 44:52] += 3.0
    found = local_rms(x, factor)
    assert float(found.min()) > 0.05
    assert float(found[..., 48, 48]) > 1.0


@given(shape=shapes, factor=factors, position=st.floats(0.125, 0.9375, width=32))
def test_a_constant_slider_position_is_held_exactly(shape: tuple[int, ...], factor: float, position: float) -> None:
    """Positions of a map may be interpolated between two bands; a single number has its own band."""
    x, guide = latents(shape), latents(shape, 1)
    found = held(x, guide, everywhere(x, position), bands(factor))
    exact = x + low_pass(guide - x, 0.5 * position / factor)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=0)


def test_in_flat_places_only_grain_as_weak_as_the_guides_is_kept() -> None:
    """Held and moderated, an island of ten times the grain is hardly stronger than it; elsewhere the grain is kept."""
    guide = 0.1 * latents((1, 4, 64, 64), 1)
    grain = 0.1 * latents((1, 4, 64, 64), 2)
    island = torch.zeros_like(guide)
    island[..., 28:36, 28:36] = 1.0
    clean = held(guide + grain + island, guide, everywhere(guide, 1.0), bands(4.0))
    kept = moderated(clean, guide, everywhere(guide, 1.0), 4.0) - guide
    assert float(kept[..., 28:36, 28:36].square().mean().sqrt()) < 0.2
    free = held(guide + grain, guide, everywhere(guide, 1.0), bands(4.0)) - guide
    assert float((kept - free)[..., :12, :].square().mean().sqrt()) < 0.2 * float(grain.std())


def guide_at(step: int, guide: Tensor) -> GuideAt:
    """The guide at a step, for one patch that covers the canvas."""
    level, window = Level(0.5, 0.5, 0, 0), Size(guide.shape[-1], guide.shape[-2]).window
    return GuideAt(
        0,
        1,
        step,
        level,
        level,
        [window],
        lambda: guide,
        lambda: torch.zeros_like(guide),
        lambda source: source.read(window)[None],
    )


def test_new_detail_in_flat_places_is_moderated_after_structure_is_released() -> None:
    clean, guide = latents((1, 4, 32, 32)), 0.1 * latents((1, 4, 32, 32), 1)
    positions, flatness = (Array(torch.full((1, 32, 32), value)) for value in (0.5, 1.0))
    hold = Held((1.0, 0.0, 0.0, 0.0), positions, bands(4.0), 4.0, flatness)
    needs = [hold.needs(step) for step in range(4)]
    assert [need.maps for need in needs] == [[positions, flatness], [flatness], [], []]
    assert [need.clean for need in needs] == [True, True, False, False]
    calmed, free = (hold.estimate(clean, guide_at(step, guide)) for step in (1, 2))
    assert torch.equal(free, clean)
    assert torch.equal(calmed, moderated(clean, guide, everywhere(clean, 1.0), 4.0))
    assert calmed.std() < 0.7 * clean.std()


@pytest.mark.parametrize(("steps", "moderated_steps"), [(20, 13), (6, 4), (4, 2), (1, 0)])
def test_flat_places_get_their_grain_in_the_last_steps(steps: int, moderated_steps: int) -> None:
    """Structure is held there as in all steps, and new detail is no longer moderated."""
    clean, guide = latents((1, 4, 32, 32)), 0.1 * latents((1, 4, 32, 32), 1)
    positions, flatness = (Array(torch.full((1, 32, 32), value)) for value in (0.5, 1.0))
    hold = Held((1.0,) * steps, positions, bands(4.0), 4.0, flatness)
    calmed = []
    for step in range(steps):
        found = hold.estimate(clean, guide_at(step, guide))
        free = held(clean, guide, everywhere(clean, 0.5), bands(4.0))
        torch.testing.assert_close(low_pass(found, 0.05), low_pass(free, 0.05), atol=0.05, rtol=0)
        calmed.append(not torch.equal(found, free))
    assert calmed == [True] * moderated_steps + [False] * (steps - moderated_steps)
