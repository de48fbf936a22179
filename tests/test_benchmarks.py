"""That the benchmark for a GPU runs, and measures what it says."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from benchmarks.sdxl import PUBLISHED, UNET, build, one_patch, table
from pixelsmith import Method


def test_the_network_of_the_benchmark_is_xls() -> None:
    """As many parameters as the published one."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684


def test_it_runs_shrunk_and_prints_a_row_for_each_batch_size() -> None:
    family = build(tiny=True, device=torch.device("cpu"), dtype=torch.bfloat16)
    assert one_patch(family)[1]
    lines = list(table(family, [4], {"default": Method(steps=1)}))
    assert [line.count("|") for line in lines] == [6, 6, 6]
    small, large, rate = (float(cell) for cell in lines[2].split("|")[2:5])
    assert 0 < small < large
    assert rate > 0
    assert not any(name in line for name in PUBLISHED for line in lines), "published figures are of full size"
