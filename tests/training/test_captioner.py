"""The embedded model's captioner is trained, exported, and read as any other one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pixelsmith import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.families import find_model, load_captioner
from training.captioner import SIDE, export, seen, train_captioner
from training.data import load_records


def test_a_trained_captioner_is_loaded_like_any_other(work: Path, tmp_path: Path) -> None:
    train_captioner(work, 0.05)
    reached = export(work, tmp_path / "captioner")
    assert reached["held_out"] == sum(record.held_out for record in load_records(work))
    captioner = load_captioner(
        find_model("embedded"), Compute("cpu"), torch.float32, Parts(captioner=str(tmp_path / "captioner"))
    )
    known = {record.caption for record in load_records(work)} | {""}
    assert set(captioner(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))) <= known


def test_scaling_down_removes_fine_detail_and_keeps_colours() -> None:
    fine = np.tile(np.array([[0, 0, 255, 255], [255, 255, 0, 0]], np.uint8).repeat(2, 0), (64, 64))
    pictures = np.repeat(fine[None, :, :, None], 3, axis=3)
    whole, shrunk = seen(pictures, 1), seen(pictures, 4)
    assert whole.shape == shrunk.shape == (1, 3, SIDE, SIDE)
    assert whole.std() > 0.9
    assert shrunk.std() < 1e-3
    torch.testing.assert_close(whole.mean(), shrunk.mean(), atol=1e-3, rtol=0)
