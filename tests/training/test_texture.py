"""The adversarial training of the texture network: what it changes, and its losses."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC
from torch import Tensor

from pixelsmith.families.texture_network import TextureModel, blurred
from training.autoencoder import as_input
from training.data import load_pixels
from training.measures.peaks import peaks
from training.texture import (
    JUDGED,
    SCALE,
    Adversaries,
    Discriminator,
    Draw,
    Weights,
    local_powers,
    opponent,
    power_loss,
    steepness,
)


def build() -> AutoencoderDC:
    torch.manual_seed(0)
    return AutoencoderDC(
        latent_channels=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=(0, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()),
    )


@pytest.fixture
def draw(work: Path) -> Draw:
    pixels, model = load_pixels(work), build()
    with torch.no_grad():
        latents = model.encode(as_input(pixels)).latent.numpy().astype(np.float16)
    return Draw(latents, pixels, np.full(len(pixels), 1 / len(pixels)), latents[:4])


def adversaries(draw: Draw, **weights: float) -> Adversaries:
    torch.manual_seed(0)
    made = Adversaries(TextureModel(), build().decoder, draw, Weights(**weights), (2, 1))
    for group in made.optimizer.param_groups:
        group["lr"] = 1e-3
    return made


def trained(made: Adversaries, steps: range) -> None:
    for step in steps:
        made.optimizer.zero_grad()
        made.step(step, 0.0)
        made.optimizer.step()


def changed(module: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_training_changes_network_and_discriminator_and_not_the_decoder(draw: Draw) -> None:
    decoder = build().decoder
    made = Adversaries(TextureModel(), decoder, draw, Weights(), (2, 1))
    for group in made.optimizer.param_groups:
        group["lr"] = 1e-3
    parts = (decoder, made.model, made.discriminator, made.averaged)
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    trained(made, range(3))
    assert [changed(part, state) for part, state in zip(parts, before, strict=True)] == [False, True, True, True]


def test_the_adversarial_loss_is_not_used_at_first(draw: Draw) -> None:
    with_it, without = adversaries(draw), adversaries(draw, adversarial=0, features=0)
    for made in (with_it, without):
        trained(made, range(2))
    assert not changed(with_it.model, without.model.state_dict())
    for made in (with_it, without):
        trained(made, range(5000, 5001))
    assert changed(with_it.model, without.model.state_dict())


def test_a_resumed_texture_training_equals_an_uninterrupted_one(draw: Draw) -> None:
    whole, first, second = (adversaries(draw) for _ in range(3))
    trained(whole, range(700, 704))
    trained(first, range(700, 702))
    for name, part in second.state.items():
        part.load_state_dict(first.state[name].state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    trained(second, range(702, 704))
    assert not changed(second.model, whole.model.state_dict())
    assert not changed(second.averaged, whole.averaged.state_dict())


def test_the_discriminator_has_a_receptive_field_of_34_pixels() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(1, 3, 96, 96, requires_grad=True)
    (gradient,) = torch.autograd.grad(Discriminator()(pixels, torch.zeros(1, 3, 96, 96))[0][0, 0, 12, 12], pixels)
    rows = gradient.abs().amax((0, 1, 3)).nonzero().flatten()
    # One more on each side by the fine octave that it is also shown.
    assert 4 * SCALE < rows.max() - rows.min() + 1 <= 36


def test_compared_pixels_belong_to_their_latents(draw: Draw) -> None:
    rng, side = np.random.default_rng(0), JUDGED * SCALE
    marked = np.arange(32 * 32, dtype=np.float16).reshape(1, 1, 32, 32)
    pixels = (marked.repeat(SCALE, 2).repeat(SCALE, 3)[0, 0, :, :, None] % 251).repeat(3, 2).astype(np.uint8)
    latents, places, found = Draw(marked, pixels[None], np.ones(1), marked).encoded(rng, 20)
    assert found.shape == (20, 3, side, side)
    for z, (y, x), x_real in zip(latents, places, found, strict=True):
        expected = z[0, y : y + JUDGED, x : x + JUDGED] % 251
        assert torch.allclose((x_real[0, ::SCALE, ::SCALE] + 1) * 127.5, expected, atol=1e-3)


def wave(period: float) -> Tensor:
    return torch.sin(2 * math.pi * torch.arange(128) / period).expand(1, 1, 128, 128)


def test_a_wave_has_most_power_in_its_own_octave() -> None:
    strongest = [int(torch.stack([p.mean() for p in local_powers(wave(period))]).argmax()) for period in (2.5, 5, 10)]
    assert strongest == [0, 1, 2]


def test_power_is_compared_by_region_not_by_pixel() -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.randn(2, 3, 96, 96, generator=rng) for _ in range(2))
    assert power_loss(one, one) == 0
    assert power_loss(one, other) < 0.3 < power_loss(one, blurred(one, 1))
    # Two halves, one flat and one rough, have the power of their mean nowhere.
    halves = torch.cat([one[..., :48], torch.zeros(2, 3, 96, 48)], dim=-1)
    assert power_loss(halves, one / math.sqrt(2)) > 0.6


def test_the_peak_measure_is_higher_for_hatching_than_for_grain() -> None:
    rng = torch.Generator().manual_seed(0)
    grain = torch.randn(2, 3, 96, 96, generator=rng) / 10
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    hatched = grain + 0.1 * torch.sin(2 * math.pi * (rows + columns) / 4)
    assert 1.5 < float(peaks(grain)) < 2.2
    assert float(peaks(blurred(grain, 1))) == pytest.approx(float(peaks(grain)), rel=0.15)
    assert float(peaks(hatched)) > 1.5 * float(peaks(grain))
    assert float(peaks(torch.zeros(1, 3, 32, 32))) == 0
    weak = (grain / 10).requires_grad_()
    peaks(weak).backward()  # type: ignore[no-untyped-call]
    assert weak.grad is not None
    assert weak.grad.isfinite().all()


def test_grey_has_no_colour() -> None:
    grey = torch.rand(1, 1, 8, 8).expand(-1, 3, -1, -1)
    assert torch.allclose(opponent(grey)[:, :1], grey[:, :1])
    assert opponent(grey)[:, 1:].abs().max() < 1e-6


def test_the_gradient_penalty_grows_with_the_gradient() -> None:
    torch.manual_seed(0)
    discriminator, pixels, smooth = Discriminator(), torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    before = steepness(discriminator, pixels, smooth)
    with torch.no_grad():
        discriminator.verdict.weight.mul_(2)
    assert torch.allclose(steepness(discriminator, pixels, smooth), 4 * before, rtol=1e-4)
    steepness(discriminator, pixels, smooth).backward()  # type: ignore[no-untyped-call]
    assert discriminator.layers[0][0].weight.grad.abs().sum() > 0  # type: ignore[index]
