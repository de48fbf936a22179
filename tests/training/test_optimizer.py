"""The denoiser's optimizer: what Muon updates, what AdamW updates, and that a training continues from its state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from training.optimizer import MuonWithAdamW

RATE = 1e-2


def network() -> nn.Sequential:
    layers = {
        "conv_in": nn.Conv2d(3, 8, 3, padding=1),
        "hidden": nn.Conv2d(8, 12, 3, padding=1),
        "norm": nn.GroupNorm(2, 12),
        "conv_out": nn.Conv2d(12, 3, 3, padding=1),
    }
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def train(model: nn.Sequential, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimizer.param_groups[0]["lr"] = RATE
        optimizer.zero_grad()
        x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        optimizer.step()


def change(before: nn.Sequential, after: nn.Sequential, name: str) -> Tensor:
    return after.get_parameter(name).detach() - before.get_parameter(name).detach()


def test_a_hidden_convolution_changes_by_a_nearly_orthogonal_matrix_of_the_size_of_adamws_change() -> None:
    model = network()
    before = copy.deepcopy(model)
    train(model, MuonWithAdamW(model, weight_decay=0.0), range(1))
    values = torch.linalg.svdvals(change(before, model, "hidden.weight").flatten(1))
    # Newton-Schulz with Muon's coefficients brings singular values near 1, not to 1; the scale is 0.2 * sqrt(72).
    usual = RATE * 0.2 * (8 * 9) ** 0.5
    assert values.min() > 0.5 * usual
    assert values.max() < 1.3 * usual


def test_other_parameters_change_as_with_adamw() -> None:
    model, usual = network(), network()
    train(model, MuonWithAdamW(model), range(1))
    train(usual, torch.optim.AdamW(usual.parameters(), betas=(0.9, 0.98), weight_decay=1e-3), range(1))
    for name in ("conv_in.weight", "conv_out.weight", "norm.weight", "hidden.bias"):
        torch.testing.assert_close(model.get_parameter(name), usual.get_parameter(name))
    assert not torch.equal(model.get_parameter("hidden.weight"), usual.get_parameter("hidden.weight"))


def test_a_training_continues_from_the_saved_state() -> None:
    whole = network()
    train(whole, MuonWithAdamW(whole), range(6))
    first = network()
    optimizer = MuonWithAdamW(first)
    train(first, optimizer, range(3))
    second = network()
    second.load_state_dict(first.state_dict())
    continued = MuonWithAdamW(second)
    continued.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, continued, range(3, 6))
    for name, parameter in whole.named_parameters():
        assert torch.equal(second.get_parameter(name), parameter), name


def test_weights_that_are_not_channels_last_are_refused() -> None:
    with pytest.raises(ValueError, match="channels-last"):
        MuonWithAdamW(network().to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
