"""The loss on held-out pictures, by noise level, and when it ends a training."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from training import validation
from training.validation import Validation, by_level, spread_timesteps


def test_losses_are_reported_by_noise_level() -> None:
    losses = by_level(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 199, 999]))
    assert losses == {"loss": 3.0, "t0-199": 2.0, "t800-999": 5.0}


def test_timesteps_of_a_batch_are_spread_over_all_levels() -> None:
    timestep = spread_timesteps(np.random.default_rng(0), 20)
    assert by_level(torch.ones(20), timestep).keys() == {"loss", *(f"t{i}-{i + 199}" for i in range(0, 1000, 200))}
    assert torch.bincount(timestep // 50).tolist() == [1] * 20


def test_a_loss_that_stops_falling_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([3.0, 2.0, 2.5, 1.9, 2.0, 2.1, 2.2])
    monkeypatch.setattr(validation, "validate", lambda *_: {"loss": next(losses)})
    check = Validation(Mock(), Mock(), tmp_path / "curve.csv", 20)
    assert [check(step, 10 * step) for step in range(6)] == [False, False, False, False, False, True]
    assert check(5, 50), "taken again, the row is written anew"
    assert (tmp_path / "curve.csv").read_text().splitlines()[-2:] == ["4,40,2", "5,50,2.2"]
