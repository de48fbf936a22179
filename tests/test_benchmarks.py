"""That the benchmarks of a GPU and of gigapixels run, and measure what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from diffusers import UNet2DConditionModel

from benchmarks import footprint, gigapixel, peers, waiting
from benchmarks.sdxl import Setting, arguments, extrapolated, main, row, settings, shortened
from benchmarks.sdxl_model import UNET, build
from benchmarks.watched import most_resident
from pixelsmith import PRESETS, Size
from pixelsmith.config.plans import StagePlan
from pixelsmith.config.recommended import Recommended
from pixelsmith.families.live_tensors import LiveTensors
from pixelsmith.families.loading.quiet import quiet
from pixelsmith.pixels.reading import picture_size

TINY = (
    "--tiny", "--device", "cpu", "--dtype", "float32", "--batch-sizes", "1", "--presets", "fast", "--factors", "2",
    "--sample", "1",
)  # fmt: skip


def test_the_network_of_the_benchmark_is_xls() -> None:
    """As many parameters as the published one."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNET)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 2_567_463_684


def test_weights_keep_the_spread_of_what_goes_through() -> None:
    unet = build(tiny=True, device=torch.device("cpu"), dtype=torch.float32).pipeline.unet
    x = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert 0.5 < unet.down_blocks[0].resnets[0].conv1(x).std() < 2
    assert (unet.conv_norm_out.weight.unique().item(), unet.conv_norm_out.bias.unique().item()) == (1, 0)


def test_it_runs_shrunk_eager_and_compiled_and_keeps_each_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled by a backend that runs graphs as they are: to generate code takes longer than all tests."""
    with torch.compiler.set_stance(force_backend="eager"):
        main([*TINY, "--compile", "--output", str(tmp_path / "rows.jsonl")])
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [(row["compiled"], row["size"]) for row in rows] == [
        (compiled, size) for compiled in (False, True) for size in ("128x128", "256x256")
    ]
    for base, stage in (rows[:2], rows[2:]):
        assert base["so_far"] == pytest.approx(base["denoise"] + base["decode"])
        assert stage["so_far"] - base["so_far"] == pytest.approx(stage["encode"] + stage["denoise"] + stage["decode"])
        assert min(stage[name] for name in ("encode", "denoise", "decode", "patches_per_second", "peak_gb")) > 0
    assert capsys.readouterr().out.count("| 128x128 | 1 of 20 |") == 2


def test_it_stops_when_its_budget_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    main([*TINY, "--budget", "0"])
    assert capsys.readouterr().out.endswith("| --- |\nthe budget is over\n")


def test_one_patch_is_finite(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--device", "cpu", "--one-patch"])
    assert "s, all finite" in capsys.readouterr().out


def rung(steps: int, patches: float) -> StagePlan:
    return StagePlan(Size(2048, 2048), Size(256, 256), steps, 0, patches, 4)


def test_the_steps_that_are_left_out_count_by_their_patches() -> None:
    base = extrapolated(rung(5, 1), rung(5, 1), [0, 10, 2], None, 1.0)
    assert (base.denoise, base.so_far, base.guessed) == (10, 12, False)
    stage = extrapolated(rung(50, 6), rung(5, 8), [1, 20, 3], base, 1.0)
    assert stage.patches_per_second == 2
    assert (stage.denoise, stage.so_far, stage.guessed) == (150, 12 + 154, True)
    above = extrapolated(rung(5, 8), rung(5, 8), [1, 20, 3], stage, 1.0)
    line = row(Setting("paper", 8, False, "float32"), stage), row(Setting("paper", 8, True, "float32"), above)
    assert "| eager | float32 | 2048x2048 | 5 of 50 | 1.0 | ~150.0 | 3.0 | ~166.0 |" in line[0]
    assert "| compiled | float32 | 2048x2048 | 5 of 5 | 1.0 | 20.0 | 3.0 | ~190.0 |" in line[1]


@pytest.mark.parametrize(("most", "expected"), [(3, (3, 3)), (10, (10, 6)), (100, (20, 6))])
def test_a_sample_takes_no_more_steps_than_there_are(most: int, expected: tuple[int, int]) -> None:
    method = shortened(PRESETS["fast"], Recommended(20), most)
    assert (method.steps, method.stage_steps) == expected
    assert replace(method, steps=None, stage_steps=6) == PRESETS["fast"], "nothing else is changed"


def all_of(*argv: str) -> Sequence[Setting]:
    return list(settings(arguments(argv)))


def test_the_most_telling_rows_come_first() -> None:
    asked = all_of("--compile", "--autoencoders", "float16", "float32")
    assert len(asked) == 2 * 4 * 2 * len(PRESETS)
    assert [(row.preset, row.compiled) for row in asked[:6]] == [(p, c) for c in (False, True) for p in PRESETS]
    assert {row.batch_size for row in asked[:6]} == {8}
    assert all_of("--dtype", "float16")[0].autoencoder == "float16"


def test_a_run_that_is_killed_on_its_way_is_counted_over_its_lives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gigapixel.main([str(tmp_path), "--side", "400", "--kills", "0.3"])
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["status"], second["status"]) == (-9, 0)
    assert 0.3 <= first["share"] < 1
    assert min(max(one["peaks"].values()) for one in (first, second)) > 50e6
    assert second["seconds"]["1 write"] > 0
    assert sum(first["processor"].values()) > 0
    assert picture_size(tmp_path / "picture.tif") == Size(400, 400)
    printed = capsys.readouterr().out
    assert f"in 2 lives, killed at: {first['share']:.0%}" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="no other system keeps the mark")
def test_a_short_peak_of_memory_is_seen_once() -> None:
    code = "values = b'1' * 200_000_000; del values; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watched = psutil.Process(process.pid)
        assert most_resident(watched) > 200_000_000
        assert most_resident(watched) < 100_000_000
        process.communicate(b"\n")


@pytest.mark.parametrize("executor", ["serial", "threaded"])
def test_a_device_that_sleeps_is_seen_to_wait(executor: str, capsys: pytest.CaptureFixture[str]) -> None:
    waiting.main(["--side", "512", "--batch-ms", "15", "--steps", "2", "--executor", executor])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [*waiting.PHASES, "all"]
    shares = [float(line.split("waits")[1].split("%")[0]) for line in lines[1:]]
    assert all(0 <= share <= 100 for share in shares)
    assert shares[3] == 100, "nothing is computed while the file is written"


@pytest.mark.parametrize(
    "name", ["SDXL, 8 patches", "SDXL's decoder", "the embedded model", "the embedded model's decoder", "Flux.1"]
)
def test_the_memory_estimate_is_above_what_architectures_hold_at_once(name: str) -> None:
    case = footprint.cases()[name]
    with quiet():
        held = footprint.per_unit(case)
    assert 0.3 * case.of(footprint._full(case)) < held < case.of(footprint._full(case))


def test_what_is_alive_at_once_is_counted() -> None:
    with LiveTensors([]) as alive:
        one = torch.zeros(1000)
        two = one + 1
        del one
        three = two.view(10, 100) * 2
        del two, three
    assert alive.peak == 2 * 4000
    assert alive.now == 0


@pytest.mark.parametrize("peer", list(peers.PEERS))
def test_a_counted_row_is_the_measured_one_at_its_own_size_and_grows_with_the_picture(peer: str) -> None:
    before = peers.Row(peer, 1024, 4, "measured", 20.0, 10.0, 6.0, peers.calls_at_least(peer, 1024, 4), 600.0)
    assert replace(peers.counted(before, 1024), how="measured") == before
    larger = peers.counted(before, 2048)
    assert larger.how == "counted"
    assert 2 * before.calls < larger.calls < 6 * before.calls
    assert 3 * before.processor_seconds < larger.processor_seconds < 6 * before.processor_seconds
    grown = peers.counted(before, 2048, replace(before, side=512, peak_mb=570.0)).peak_mb
    flat = peer == "pixelsmith"
    assert larger.peak_mb == pytest.approx(600.0 if flat else 4 * 600.0)
    assert grown == pytest.approx(600.0 if flat else 720.0)


def test_the_panorama_pipeline_has_as_many_windows_as_are_counted() -> None:
    from diffusers import StableDiffusionPanoramaPipeline

    for side in (256, 512, 1024):
        views = StableDiffusionPanoramaPipeline.get_views(None, side, side, window_size=32, stride=8)
        assert peers.calls_at_least("panorama", side, 1) == len(views)
