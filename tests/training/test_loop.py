"""What the trainings share."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

from pixelsmith.families.load import choose_dtype
from training.loop import half_precision, train

CPU = torch.device("cpu")


def test_half_precision_is_of_the_products_alone_and_only_where_the_hardware_has_it() -> None:
    weight = torch.randn(8, 8, requires_grad=True)
    with half_precision(CPU):
        product = torch.randn(4, 8) @ weight
    (gradient,) = torch.autograd.grad(product.float().square().mean(), weight)
    assert product.dtype is choose_dtype("auto", CPU)
    assert gradient.dtype is torch.float32


def test_attention_as_matrix_products_has_the_gradients_of_the_fused_one() -> None:
    q, k, v = (torch.randn(2, 4, 64, 40, requires_grad=True) for _ in range(3))
    upstream = torch.randn(2, 4, 64, 40)
    fused = torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), upstream)
    with half_precision(CPU):
        ours = F.scaled_dot_product_attention(q, k, v)
    for a, b in zip(torch.autograd.grad(ours, (q, k, v), upstream), fused, strict=True):
        assert F.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.999


def test_a_training_that_goes_on_logs_means_of_the_steps_it_took(tmp_path: Path) -> None:
    """The first row after an interruption is of fewer steps than the others."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1e-3)

    def train_for(steps: int) -> None:
        train("run", tmp_path, lambda step, _: step / steps, 1e-3, {}, optimizer, lambda *_: {"loss": 2.0})

    train_for(70)
    train_for(120)
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), float(row["loss"])) for row in rows] == [(50, 2.0), (100, 2.0)]
