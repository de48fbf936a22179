"""Patches and tiles that cross the edges of a wrapping canvas give the same values as those inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.config.compute import Compute
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine.codec import decode, encode
from pixelsmith.engine.denoise import Denoising
from pixelsmith.engine.stage import StageSteps
from pixelsmith.engine.texture import Texture
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.geometry import NO_WRAP, Size, Window, Wrap
from pixelsmith.pixels.resample import Resized
from pixelsmith.sampling.grid import ShiftedGrid
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import NoiseField, repeated
from pixelsmith.sampling.samplers import SAMPLERS
from pixelsmith.sampling.schedule import Level
from tests.engine.test_denoise import CHANNELS, CPU, SCHEDULE

ALL = Wrap(x=True, y=True)


@pytest.fixture(scope="module")
def embedded() -> Family:
    folder = find_model(EMBEDDED)
    return load_family(folder, read_facts(folder, EMBEDDED), Compute(dtype="float32"))


def quiet(done: int, total: int) -> None:
    pass


def of_each_place(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
    """A pointwise estimate, which shows whether windows are read and written at the right places."""
    return torch.tanh(x) * level.alpha


def of_neighbours(x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
    """An estimate that depends on neighbouring latents and on the length of the patch."""
    return torch.tanh(x - 0.5 * x.mean((2, 3), keepdim=True)) * level.alpha


def denoised(
    size: Size,
    patch: Size,
    wrap: Wrap,
    batch_size: int = 4,
    denoiser: object = of_each_place,
    sampler: str = "dpmpp-2m",
) -> Tensor:
    made = Denoising(
        denoiser=denoiser,  # type: ignore[arg-type]
        schedule=SCHEDULE,
        coverage=ShiftedGrid(size, patch, 3, seed=4, stage=1, wrap=wrap),
        noise=repeated(NoiseField(4, 1, CHANNELS), size, wrap),
        seed=4,
        stage=1,
        rule=SAMPLERS[sampler],
        wrap=wrap,
    )
    return made.run(StageSteps(MemorySpace(), 1, made.channels), batch_size, CPU).read(size.window)


@pytest.mark.parametrize("sampler", ["dpmpp-2m", "euler-a"])
@pytest.mark.parametrize("wrap", [ALL, Wrap(x=True), Wrap(y=True)])
@pytest.mark.parametrize("size", [Size(40, 31), Size(12, 12), Size(64, 9)], ids=str)
def test_a_pointwise_denoiser_gives_the_same_canvas_with_and_without_wrapping(
    size: Size, wrap: Wrap, sampler: str
) -> None:
    most = wrap.padded(size, 3)
    patch = Size(min(16, most.width), min(16, most.height))
    plain = denoised(size, Size(min(16, size.width), min(16, size.height)), NO_WRAP, sampler=sampler)
    assert torch.allclose(denoised(size, patch, wrap, sampler=sampler), plain, atol=1e-5)


def test_batch_size_does_not_change_a_wrapping_canvas() -> None:
    one, seven = (denoised(Size(40, 31), Size(16, 16), ALL, count, of_neighbours) for count in (1, 7))
    assert torch.allclose(one, seven, atol=1e-6)


@torch.inference_mode()
def test_encoding_and_decoding_commute_with_rolling(embedded: Family) -> None:
    """The output of a local autoencoder depends only on its context, so neither tiles nor edges are visible."""
    autoencoder, scale, size = embedded.autoencoder, embedded.facts.latent_scale, Size(384, 192)
    canvas = size.divided(scale)
    pixels = torch.randint(0, 256, (3, 24, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    small = Resized(Array(pixels), Size(48, 24), size, "bicubic", wrap=ALL).read(size.window)

    def encoded(picture: Tensor, wrap: Wrap = ALL) -> Tensor:
        latents = MemorySpace().open("l", autoencoder.tiling.tiles(canvas, wrap), embedded.facts.latent_channels)
        source = Resized(Array(picture), size, size, "bicubic", wrap=wrap)
        encode(source, scale, autoencoder, latents, quiet, wrap=wrap)
        return latents.read(canvas.window)

    def decoded(latents: Tensor, wrap: Wrap = ALL, texture: Texture | None = None) -> Tensor:
        tiles = autoencoder.tiling.tiles(canvas, wrap).scaled(scale)
        picture = MemorySpace().open("p", tiles, 3, torch.float32)
        decode(_Plane(latents), autoencoder, picture, quiet, texture=texture, wrap=wrap)
        return picture.read(size.window)

    across, down = 5, 9
    in_pixels = (down * scale, across * scale)
    latents = encoded(small)
    rolled = latents.roll((down, across), (1, 2))
    assert torch.allclose(encoded(small.roll(in_pixels, (1, 2))), rolled, atol=1e-3)
    assert not torch.allclose(encoded(small.roll(in_pixels, (1, 2)), NO_WRAP), rolled, atol=1e-2), "edges would show"

    assert embedded.texture is not None
    field = NoiseField(1, 1, embedded.texture.noise_channels, Purpose.TEXTURE)
    texture = Texture(embedded.texture, repeated(field, size, ALL), 1.0, scale)
    moved = replace(texture, noise=_Plane(texture.noise.read(size.window).roll(in_pixels, (1, 2))))
    for one, other in ((None, None), (texture, moved)):
        found = decoded(rolled, texture=other) - decoded(latents, texture=one).roll(in_pixels, (1, 2))
        assert found.abs().max() < 0.1, "of 255"


class _Plane:
    """A canvas that wraps on both axes, whose windows are read by explicit indices."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.size, self.channels = values, Size(values.shape[2], values.shape[1]), len(values)

    def read(self, window: Window) -> Tensor:
        rows = torch.arange(window.top, window.bottom) % self.size.height
        return self.values[:, rows][:, :, torch.arange(window.left, window.right) % self.size.width]
