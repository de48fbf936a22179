from __future__ import annotations

from collections.abc import Callable

import accelerate
import pytest
import torch
from torch import nn

from pixelsmith.families.autoencoders.autoencoder import DiffusersAutoencoder
from pixelsmith.families.autoencoders.steady import steady
from tests.tiny import build_autoencoder

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 8, 1), nn.GroupNorm(2, 8))


@torch.inference_mode()
def test_tiles_with_statistics_of_the_whole_picture_equal_the_untiled_result() -> None:
    """Convolutions of 1x1 are local: held steady by the whole picture, tiles must give exactly its parts."""
    model = network()
    picture = torch.randn(1, 3, 16, 16) + torch.linspace(-3, 3, 16)
    whole = model(picture)
    assert not torch.allclose(model(picture[..., :8]), whole[..., :8], atol=0.1)
    with steady(model, model, [picture]):
        torch.testing.assert_close(model(picture[..., :8]), whole[..., :8], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(picture[..., 8:]), whole[..., 8:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model(picture), whole)


@torch.inference_mode()
def test_statistics_of_samples_are_combined_by_total_variance() -> None:
    """One layer, two halves as samples: their joint statistics are those of the whole."""
    layer = nn.GroupNorm(2, 4)
    picture = torch.randn(1, 4, 8, 16) + torch.linspace(-3, 3, 16)
    whole = layer(picture)
    with steady(layer, layer, torch.split(picture, 8, dim=-1)):
        torch.testing.assert_close(layer(picture[..., :8]), whole[..., :8], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_layer_with_fixed_statistics_does_not_compute_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    model, picture = network(), torch.randn(1, 3, 8, 8)
    with steady(model, model, [picture]):
        monkeypatch.setattr(nn.functional, "group_norm", None)
        held = model(picture)
        monkeypatch.undo()
    torch.testing.assert_close(held, model(picture), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_flat_layer_far_from_zero_stays_finite() -> None:
    layer = nn.GroupNorm(2, 4)
    picture = 300 + 1e-3 * torch.randn(1, 4, 16, 16)
    with steady(layer, layer, [picture]):
        torch.testing.assert_close(layer(picture), nn.GroupNorm(2, 4)(picture), atol=0.2, rtol=0.2)


def test_hooks_are_removed_after_an_error() -> None:
    model = network()
    before = model(torch.ones(1, 3, 4, 4))

    def fail() -> None:
        with steady(model, model, [torch.randn(1, 3, 8, 8)]):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    torch.testing.assert_close(model(torch.ones(1, 3, 4, 4)), before)


@torch.inference_mode()
@pytest.mark.parametrize("offload", [accelerate.cpu_offload, accelerate.cpu_offload_with_hook])
def test_fixed_statistics_work_with_an_offloaded_autoencoder(
    offload: Callable[..., object],
) -> None:
    """What ``--memory sequential`` and ``offload`` do, with the CPU as the device that computes."""
    latents = torch.randn(3, 1, 4, 12, 12) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1, 1)
    usual, moved = build_autoencoder(), build_autoencoder()
    offload(moved, CPU)

    def held(vae: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        autoencoder = DiffusersAutoencoder(vae, CPU)
        with autoencoder.steady_decoding(latents[:2]):
            pixels = autoencoder.decode(latents[2])
        with autoencoder.steady_encoding([pixels, pixels / 2]):
            return pixels, autoencoder.encode(pixels / 3)

    for found, expected in zip(held(moved), held(usual), strict=True):
        torch.testing.assert_close(found, expected)
