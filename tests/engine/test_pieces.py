"""Tiles computed in pieces: equal for local autoencoders, close for others, and halved if memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.spread import ThreadLink, ThreadLinks
from pixelsmith import Compute, DeviceError, Event, Method, Placement, Request, Size, Warned, generate, resume
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine.crew import Crew
from pixelsmith.engine.pieces import InPieces, UpsamplerInPieces
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.families.autoencoders.autoencoder import DiffusersAutoencoder
from pixelsmith.geometry import Window
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.workers.remote import RemoteAutoencoder
from pixelsmith.workers.worker import Worker
from tests.api.test_loaded import interrupted, request_of
from tests.tiny import build_autoencoder
from tests.upsamplers import Convolved, Cramped


@pytest.fixture(scope="module")
def embedded() -> Family:
    folder = find_model(EMBEDDED)
    return load_family(folder, read_facts(folder, EMBEDDED), Compute("cpu", "float32"))


def with_room_for(side: int, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An autoencoder's pass on a device that has memory for this many values a side."""

    def limited(values: Tensor, *more: Any) -> Tensor:
        if max(values.shape[-2:]) > side:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(values, *more)

    return limited


@torch.inference_mode()
def test_pieces_of_a_local_autoencoder_equal_the_tile(embedded: Family) -> None:
    autoencoder, channels = embedded.autoencoder, embedded.facts.latent_channels
    rng = torch.Generator().manual_seed(0)
    latents, pixels = torch.randn(1, channels, 60, 72, generator=rng), torch.rand(1, 3, 480, 576, generator=rng)
    kept = Window(14, 3, 30, 50)
    inside = kept.scaled(8).slices
    pieces = InPieces(autoencoder, 8, lambda side: None, side=48)
    whole, found = autoencoder.decode(latents, kept), pieces.decode(latents, kept)
    assert torch.equal(_bytes(whole[(..., *inside)]), _bytes(found[(..., *inside)]))
    assert (pieces.encode(pixels) - autoencoder.encode(pixels)).abs().max() < 1e-4
    assert len(pieces._pieces(Size(72, 60))) > 1


def _bytes(pixels: Tensor) -> Tensor:
    return ((pixels + 1) * 127.5).round().clamp(0, 255)


@torch.inference_mode()
def test_pieces_of_a_global_autoencoder_are_close_to_the_tile() -> None:
    """Closer than tiles that are normalised separately, whose tones jump."""
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"), TileLayout(64, 12, 12))
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) + torch.linspace(-2, 2, 64)
    whole = autoencoder.decode(latents)
    pieces = InPieces(autoencoder, 4, lambda side: None, side=44)
    loose = pieces.decode(latents)
    with pieces.steady_decoding([latents]):
        held = pieces.decode(latents)
    assert (held - whole).abs().mean() < 0.5 * (loose - whole).abs().mean()


@torch.inference_mode()
def test_a_tile_is_halved_until_it_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"), TileLayout(64, 8, 8))
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(autoencoder, "decode", with_room_for(45, autoencoder.decode))
    heard: list[int] = []
    pieces = InPieces(autoencoder, 4, heard.append)
    assert pieces.decode(latents).shape == (1, 3, 256, 256)
    assert heard == [4 * 40]
    pieces.decode(latents)
    assert len(heard) == 1, "it is remembered"


@torch.inference_mode()
def test_samples_for_statistics_are_halved_too() -> None:
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"), TileLayout(64, 8, 8))
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    forward = autoencoder._vae.decoder.forward
    autoencoder._vae.decoder.forward = with_room_for(45, forward)
    heard: list[int] = []
    pieces = InPieces(autoencoder, 4, heard.append)
    with pieces.steady_decoding(iter([latents, -latents])):
        found = pieces.decode(latents)
    assert heard == [4 * 40]
    autoencoder._vae.decoder.forward = forward
    with InPieces(autoencoder, 4, heard.append, side=40).steady_decoding(iter([latents, -latents])):
        expected = InPieces(autoencoder, 4, heard.append, side=40).decode(latents)
    assert torch.equal(found, expected), "the samples that were let through before count once"


@torch.inference_mode()
def test_samples_that_a_worker_has_no_room_for_are_halved_too() -> None:
    """The worker is not lost."""
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"), TileLayout(64, 8, 8))
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    with InPieces(autoencoder, 4, lambda side: None, side=40).steady_decoding(iter([latents, -latents])):
        expected = InPieces(autoencoder, 4, lambda side: None, side=40).decode(latents)
    autoencoder._vae.decoder.forward = with_room_for(45, autoencoder._vae.decoder.forward)
    worker, heard = Worker("cpu", SimpleNamespace(autoencoder=autoencoder)), list[int]()
    with Crew(ThreadLinks([ThreadLink("one", worker)])) as crew:
        pieces = InPieces(RemoteAutoencoder(autoencoder.tiling, crew), 4, heard.append)
        with pieces.steady_decoding(iter([latents, -latents])):
            found = pieces.decode(latents)
        assert len(crew.ready) == 1
    assert heard == [4 * 40]
    assert torch.equal(found, expected)


def test_a_tile_of_an_upsampler_without_room_is_halved_too() -> None:
    pixels = torch.randint(0, 256, (3, 300, 280), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    network, heard = Convolved(2), list[int]()
    pieces = UpsamplerInPieces(Cramped(network, 200), 2, heard.append)
    found = pieces(pixels)
    assert (found.int() - network(pixels).int()).abs().max() <= 1, "sums of floats may be rounded otherwise"
    assert heard == [2 * (64 + (300 - 64) // 2)]
    with pytest.raises(torch.OutOfMemoryError):
        UpsamplerInPieces(Cramped(network, 20), 2, heard.append)(pixels)


@torch.inference_mode()
def test_pieces_have_a_least_size(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = DiffusersAutoencoder(build_autoencoder(), torch.device("cpu"), TileLayout(64, 8, 8))
    monkeypatch.setattr(autoencoder, "encode", with_room_for(4, autoencoder.encode))
    heard: list[int] = []
    with pytest.raises(torch.OutOfMemoryError):
        InPieces(autoencoder, 4, heard.append).encode(torch.zeros(1, 3, 256, 256))
    assert heard == sorted(heard, reverse=True)
    assert min(heard) >= 4 * autoencoder.tiling.least


def small_memory(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """During the test, decoders have memory for this many latents a side."""
    monkeypatch.setattr(
        DiffusersAutoencoder,
        "decode",
        lambda self, latents, kept=None, call=DiffusersAutoencoder.decode: with_room_for(
            side, lambda *given: call(self, *given)
        )(latents, kept),
    )


def test_a_run_continues_in_pieces_if_tiles_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(
        "a sea", Size(512, 384), method=Method(steps=1, stage_steps=1, texture=0), compute=Compute("cpu", "float32")
    )
    expected = generate(request).pixels
    small_memory(monkeypatch, 44)
    heard: list[Event] = []
    found = generate(request, observer=heard.append).pixels
    assert np.array_equal(found, expected)
    said = [event.message for event in heard if isinstance(event, Warned)]
    assert said
    assert all("no memory for a tile of the autoencoder; going on with pieces of" in message for message in said)


def test_a_run_that_ran_out_of_memory_resumes_with_smaller_tiles(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = interrupted(tiny_model, tmp_path)
    with monkeypatch.context() as patch:
        small_memory(patch, 1)
        with pytest.raises(DeviceError, match="no memory for a tile"):
            resume(run_dir)
    result = resume(run_dir, placement=Placement(tile=192))
    assert result.pixels.shape == generate(request_of(tiny_model)).pixels.shape
