"""What the trainings share."""

from __future__ import annotations

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pixelsmith.families.loading.loader import choose_dtype
from training.checkpoints import Log, load_checkpoint
from training.loop import Chore, Losses, cosine, half_precision, held, train

CPU = torch.device("cpu")


def test_only_matrix_products_are_in_half_precision_and_only_on_hardware_with_support() -> None:
    weight = torch.randn(8, 8, requires_grad=True)
    with half_precision(CPU):
        product = torch.randn(4, 8) @ weight
    (gradient,) = torch.autograd.grad(product.float().square().mean(), weight)
    assert product.dtype is choose_dtype("auto", CPU)
    assert gradient.dtype is torch.float32


def test_attention_as_matrix_products_has_the_gradients_of_fused_attention() -> None:
    q, k, v = (torch.randn(2, 4, 64, 40, requires_grad=True) for _ in range(3))
    upstream = torch.randn(2, 4, 64, 40)
    fused = torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), upstream)
    with half_precision(CPU):
        ours = F.scaled_dot_product_attention(q, k, v)
    for a, b in zip(torch.autograd.grad(ours, (q, k, v), upstream), fused, strict=True):
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999


def test_a_resumed_training_logs_means_over_its_own_steps(tmp_path: Path) -> None:
    """The first row after an interruption is of fewer steps than the others."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1e-3)

    def train_for(steps: int) -> None:
        train(tmp_path / "run.pt", lambda step, _: step / steps, cosine(1e-3), {}, optimizer, lambda *_: {"loss": 2.0})

    train_for(70)
    train_for(120)
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["loss"])) for row in rows] == [(50, 2.0), (100, 2.0)]


def trained(path: Path, steps: int, step_fn: Callable[[int, float], Losses], chores: Sequence[Chore] = ()) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    train(path, lambda step, _: step / steps, cosine(1e-3), {}, optimizer, step_fn, chores)


def test_a_loss_of_some_steps_is_averaged_over_those_steps(tmp_path: Path) -> None:
    trained(tmp_path / "run.pt", 50, lambda step, _: {"loss": 1.0} | ({"rare": 3.0} if step % 10 == 0 else {}))
    assert Log(tmp_path / "run.csv", 50).rows[-1]["rare"] == 3.0


def test_a_pause_saves_a_checkpoint_and_stops_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pause, waited = tmp_path / "run.pt", tmp_path / "pause", []

    def wait(_: object, timeout: float) -> bool:
        waited.append(load_checkpoint(path)["step"])
        if len(waited) == 3:
            pause.unlink()
        return not pause.exists() and timeout < 0

    def step_fn(step: int, _: float) -> Losses:
        if step == 4:
            pause.touch()
        return {"loss": 1.0}

    monkeypatch.setattr("threading.Event.wait", wait)
    trained(path, 8, step_fn)
    assert waited == [5, 5, 5], "the checkpoint is of the moment of the pause"
    assert load_checkpoint(path)["step"] == 8


def test_the_saved_time_is_processor_time(tmp_path: Path) -> None:
    def step_fn(*_: object) -> Losses:
        time.sleep(0.1)
        return {"loss": 1.0}

    trained(tmp_path / "run.pt", 10, step_fn)
    assert load_checkpoint(tmp_path / "run.pt")["seconds"] < 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_sigterm_ends_a_training_with_a_checkpoint(tmp_path: Path) -> None:
    def step_fn(step: int, _: float) -> Losses:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": 1.0}

    usual = signal.getsignal(signal.SIGTERM)
    trained(tmp_path / "run.pt", 100, step_fn)
    assert load_checkpoint(tmp_path / "run.pt")["step"] == 7
    assert signal.getsignal(signal.SIGTERM) == usual


def test_periodic_tasks_run_at_their_interval_and_can_end_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds a step; what ended goes on where it was."""
    path, called, clock = tmp_path / "run.pt", [], itertools.count(0, 10)
    monkeypatch.setattr("training.loop.time.process_time", lambda: float(next(clock)))
    chore = Chore(30, lambda step, seconds: called.append((step, seconds)) or step == 9)  # type: ignore[func-returns-value]
    trained(path, 5, lambda *_: {"loss": 1.0}, [chore])
    assert called == [(0, 0), (3, 30), (5, 50)]
    trained(path, 100, lambda *_: {"loss": 1.0}, [chore])
    assert called[3:] == [(6, 60), (9, 90)]
    assert load_checkpoint(path)["step"] == 9


def test_a_constant_learning_rate_needs_no_last_step_until_its_decay() -> None:
    rate = held(2.0, cooldown=0.25, warmup=10)
    assert [rate(step, 0.0) for step in (0, 4, 9, 1000)] == [0.2, 1.0, 2.0, 2.0]
    assert [rate(1000, share) for share in (0.5, 0.75, 0.875, 1.0)] == [2.0, 2.0, 1.0, 0.0]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX niceness")
def test_lowering_the_priority_never_raises_it() -> None:
    code = "import os; from training.loop import be_modest\nfor n in (12, 3, 19): be_modest(1, n); print(os.nice(0))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(max(os.nice(0), n)) for n in (12, 12, 19)]
