from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch

from pixelsmith import DeviceError
from pixelsmith.canvas import Array, MemorySpace, WithOverview
from pixelsmith.config.compute import Compute
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine import Serial, Work
from pixelsmith.engine.codec import decode, encode
from pixelsmith.engine.executor import OnDone
from pixelsmith.engine.texture import Texture
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.families.autoencoders.autoencoder import DiffusersAutoencoder
from pixelsmith.families.autoencoders.narrowing import context_of
from pixelsmith.families.family import Autoencoder
from pixelsmith.families.textures import NetworkTexture
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.resample import Resized
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.sampling.keyed import Purpose
from pixelsmith.sampling.noise import NoiseField
from pixelsmith.sampling.readable import Readable
from tests.tiny import build_autoencoder, build_texture


def quiet(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def embedded() -> Family:
    folder = find_model(EMBEDDED)
    return load_family(folder, read_facts(folder, EMBEDDED), Compute(dtype="float32"))


def decoded(
    latents: Readable, autoencoder: Autoencoder, size: Size, scale: int, texture: Texture | None = None
) -> torch.Tensor:
    tiles = autoencoder.tiling.tiles(latents.size).scaled(scale)
    picture = MemorySpace().open("picture", tiles, 3, torch.float32, size)
    decode(latents, autoencoder, picture, quiet, texture=texture)
    return picture.read(size.window)


def smooth_picture(size: Size) -> torch.Tensor:
    """Shapes of many sizes and strong gradients, on which shifts of tone are visible."""
    noise = torch.randn(1, 3, size.height // 8, size.width // 8, generator=torch.Generator().manual_seed(0))
    rough = torch.nn.functional.interpolate(noise, (size.height, size.width), mode="bicubic")[0]
    return ((rough * 30 + torch.linspace(20, 230, size.width)).clamp(0, 255)).to(torch.uint8)


@torch.inference_mode()
def test_tiles_of_the_embedded_model_equal_an_untiled_pass(embedded: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(640, 512)
    autoencoder = embedded.autoencoder
    picture = Array(smooth_picture(size))
    whole = autoencoder.encode(picture.read(size.window)[None] / 127.5 - 1)[0]
    monkeypatch.setattr(autoencoder, "tiling", TileLayout(side=44, context=autoencoder.tiling.context, blend=0))
    channels = embedded.facts.latent_channels
    latents = MemorySpace().open("guide", autoencoder.tiling.tiles(Size(80, 64)), channels)
    encode(picture, 8, autoencoder, latents, quiet)
    assert (latents.read(latents.size.window) - whole).abs().max() < 2e-3
    pixels = decoded(latents, autoencoder, size, 8)
    expected = ((autoencoder.decode(whole[None])[0] + 1) * 127.5).clamp(0, 255)
    assert (pixels - expected).abs().max() < 0.5, "8-bit values must not change by more than rounding"


@torch.inference_mode()
def test_a_padded_picture_has_its_exact_size(embedded: Family) -> None:
    latents = Array(NoiseField(0, 0, embedded.facts.latent_channels).read(Size(12, 8).window))
    assert decoded(latents, embedded.autoencoder, Size(91, 50), 8).shape == (3, 50, 91)


@torch.inference_mode()
def test_texture_does_not_depend_on_tiles(embedded: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    channels, size = embedded.facts.latent_channels, Size(640, 512)
    latents = Array(NoiseField(0, 0, channels).read(Size(80, 64).window))
    network = NetworkTexture(build_texture(), torch.device("cpu"))
    texture = Texture(network, NoiseField(0, 1, network.noise_channels, Purpose.TEXTURE), 1.0, 8)
    whole = decoded(latents, embedded.autoencoder, size, 8, texture)
    context = context_of(embedded.pipeline.vae.config)  # type: ignore[attr-defined]
    tiling = TileLayout(side=44, context=context, blend=0).seeing_more(texture.context)
    monkeypatch.setattr(embedded.autoencoder, "tiling", tiling)
    assert (decoded(latents, embedded.autoencoder, size, 8, texture) - whole).abs().max() < 0.5
    assert (decoded(latents, embedded.autoencoder, size, 8) - whole).abs().mean() > 0.5, "there was no texture"


@torch.inference_mode()
def test_only_missing_tiles_are_decoded(embedded: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = embedded.autoencoder
    monkeypatch.setattr(autoencoder, "tiling", TileLayout(side=28, context=12, blend=0))
    latents = Array(NoiseField(0, 0, embedded.facts.latent_channels).read(Size(40, 32).window))
    tiles = autoencoder.tiling.tiles(latents.size).scaled(8)
    pictures = [MemorySpace().open("picture", tiles, 3, torch.uint8) for _ in range(2)]
    heard: list[int] = []
    decode(latents, autoencoder, pictures[0], lambda done, total: None)
    for index in range(len(tiles)):
        if index % 3:
            pictures[1].put(index, torch.zeros(3, 224, 224))
    decode(latents, autoencoder, pictures[1], lambda done, total: heard.append(done - 1))
    assert heard == [index for index in range(len(tiles)) if index % 3 == 0]
    assert pictures[1].complete


@torch.inference_mode()
def test_a_global_autoencoder_has_no_tone_jumps_between_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shared statistics, tiles are far closer to an untiled pass than tiles normalised separately."""
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"))
    assert autoencoder.tiling.blend > 0
    size = Size(384, 256)
    ramp = torch.linspace(-2, 2, 96)
    latents = Array(NoiseField(0, 0, 4).read(Size(96, 64).window) * 0.5 + ramp)
    expected = ((autoencoder.decode(latents.read(latents.size.window)[None])[0] + 1) * 127.5).clamp(0, 255)
    monkeypatch.setattr(autoencoder, "tiling", TileLayout(side=48, context=12, blend=12))
    held = decoded(latents, autoencoder, size, 4)
    monkeypatch.setattr(autoencoder, "steady_decoding", lambda samples: nullcontext())
    loose = decoded(latents, autoencoder, size, 4)

    def tone_error(pixels: torch.Tensor) -> float:
        return torch.nn.functional.avg_pool2d(pixels - expected, 16).mean(0).abs().mean().item()

    assert tone_error(held) < 0.5 * tone_error(loose)


@torch.inference_mode()
def test_overflow_is_an_error_instead_of_black_tiles() -> None:
    """In float32 the same weights work."""
    latents = Array(NoiseField(0, 0, 4).read(Size(16, 16).window))
    for dtype in (torch.float32, torch.float16):
        vae = build_autoencoder()
        for part in (vae.decoder, vae.encoder):
            part.conv_in.weight.data *= 1e6
        autoencoder = DiffusersAutoencoder(vae.to(dtype), torch.device("cpu"))
        picture = MemorySpace().open("picture", autoencoder.tiling.tiles(latents.size).scaled(4), 3, torch.uint8)
        guide = MemorySpace().open("guide", autoencoder.tiling.tiles(latents.size), 4)
        there = Array(smooth_picture(Size(64, 64)))
        if dtype == torch.float32:
            decode(latents, autoencoder, picture, quiet)
            encode(there, 4, autoencoder, guide, quiet)
            continue
        with pytest.raises(DeviceError, match="dtype bfloat16"):
            decode(latents, autoencoder, picture, quiet)
        with pytest.raises(DeviceError, match="dtype bfloat16"):
            encode(there, 4, autoencoder, guide, quiet)


@torch.inference_mode()
def test_out_of_memory_for_a_tile_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"))
    monkeypatch.setattr(autoencoder, "tiling", TileLayout(side=48, context=12, blend=12))

    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(autoencoder, "decode", full)
    with pytest.raises(DeviceError, match="no memory for a tile"):
        decoded(Array(NoiseField(0, 0, 4).read(Size(96, 64).window)), autoencoder, Size(384, 256), 4)


class Shapes:
    """An autoencoder on the meta device, which has shapes but no data."""

    device = torch.device("meta")
    tiling = TileLayout(side=16, context=4, blend=0)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        assert (pixels.device.type, pixels.dtype) == ("meta", torch.float32)
        return torch.nn.functional.avg_pool2d(pixels, 4)

    def decode(self, latents: torch.Tensor, kept: Window | None = None) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents.to(self.device), scale_factor=4)

    def steady_encoding(self, samples: object) -> AbstractContextManager[None]:
        return nullcontext()

    steady_decoding = steady_encoding


@torch.inference_mode()
def test_pixels_are_computed_on_the_device_and_copied_as_bytes() -> None:
    """The source's bytes are copied to the device; nothing is computed on the host."""
    seen: list[tuple[torch.Size, torch.dtype]] = []

    class Watching:
        """An executor that records what would be copied to the host, and returns zeros."""

        elsewhere = even = False

        def run(self, work: Work[Any, Any], on_done: OnDone) -> None:
            def compute(inputs: Any) -> tuple[torch.Tensor, ...]:
                found = work.compute(inputs)
                found = (found,) if isinstance(found, torch.Tensor) else found
                assert {each.device.type for each in found} == {"meta"}
                seen.extend((each.shape, each.dtype) for each in found)
                return tuple(torch.ones(each.shape, dtype=each.dtype) for each in found)

            def write(group: Sequence[int], values: tuple[torch.Tensor, ...]) -> None:
                work.write(group, values if len(values) > 1 else values[0])

            Serial().run(replace(work, compute=compute, write=write), on_done)

        def ahead(self, call: Any) -> Any:
            return call

        behind = ahead

    autoencoder, size = Shapes(), Size(96, 80)
    enlarged = Resized(Array(smooth_picture(Size(48, 40))), Size(48, 40), size, "lanczos")
    tiles = autoencoder.tiling.tiles(Size(24, 20))
    guide = MemorySpace().open("guide", tiles, 3)
    encode(enlarged, 4, autoencoder, guide, quiet, Watching())
    assert {dtype for _, dtype in seen} == {torch.float32}
    seen.clear()
    space = MemorySpace()
    picture = WithOverview(
        space.open("picture", tiles.scaled(4), 3, torch.uint8), space.open("overview", tiles, 3, torch.uint8), 4
    )
    latents = Array(NoiseField(0, 0, 3).read(Size(24, 20).window))
    decode(latents, autoencoder, picture, quiet, Watching())
    window = tiles[0].window
    assert seen[:3] == [
        ((1, 3, 4 * window.height, 4 * window.width), torch.uint8),
        ((1, 3, window.height, window.width), torch.uint8),
        ((1,), torch.bool),
    ]
    assert picture.complete
    assert guide.complete
