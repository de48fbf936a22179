"""That the benchmark for a GPU runs, and measures what it says."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks.sdxl import UNET, build, heading, one_patch, published, table
from pixelsmith import Method


def test_the_network_of_the_benchmark_is_xls() -> None:
    """As many parameters as the published one."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684


def test_it_runs_shrunk_and_prints_a_row_for_each_batch_size() -> None:
    family = build(tiny=True, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert one_patch(family)[1]
    lines = list(table(family, [4], {"default": Method(steps=2)}, (2, 3), compiled=False))
    assert [line.count("|") for line in lines] == [10, 10, 10]
    assert "| to 128², s | to 256², s | to 384², s |" in lines[0]
    base, small, large, *phases, rate, _ = (float(cell) for cell in lines[2].split("|")[2:-1])
    assert 0 < base < small < large
    assert sum(phases) == pytest.approx(large - base, abs=0.3), "nothing of a stage is in no phase"
    assert rate > 0


def test_published_seconds_stand_below_the_size_that_they_were_measured_at() -> None:
    (row,) = (row for row in published([4, 8]) if row.startswith("| DemoFusion"))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["", "1632", "–"]
    assert all(line.count("|") == next(heading(1024, [4, 8])).count("|") for line in published([4, 8]))
