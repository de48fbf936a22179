"""The denoiser's schedule, a training that starts from an exported model, and the model exported from it."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file

from pixelsmith import Method, Request, Size, generate
from pixelsmith.families.shared.schedules import config_of, schedule_of
from pixelsmith.sampling.schedule import Schedule, extrapolated, step
from training import denoiser, export, latents, sheets
from training.checkpoints import Log
from training.network import average, build_scheduler, noise_levels, retime

EMBEDDED = Path("src/pixelsmith/embedded/model")


def cosine() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True,
    )  # fmt: skip


def test_the_noise_to_signal_ratio_is_u_over_1_minus_u_squared() -> None:
    squares = build_scheduler().alphas_cumprod.double().numpy()
    u = np.arange(1, 1001) / 1000
    ratio = np.sqrt((1 - squares[:-1]) / squares[:-1])
    # In float32, a square near 1 leaves little of the noise.
    np.testing.assert_allclose(ratio, u[:-1] / (1 - u[:-1]) ** 2, rtol=2e-3, atol=1e-4)
    assert squares[-1] == 0


def spread_kept(schedule: Schedule, spread: float, second_order: bool = False) -> float:
    """Of normal numbers of this spread, as the best denoiser of them brings them from noise: of theirs, what share."""
    x, before, levels = torch.ones(1, 1, 1), torch.zeros(1, 1, 1), schedule.levels
    for i, (t, s) in enumerate(pairwise(levels)):
        clean = t.alpha * spread**2 / (t.alpha**2 * spread**2 + t.sigma**2) * x
        x = step(x, extrapolated(clean, before, levels[i - 1], t, s) if second_order and i > 0 else clean, t, s)
        before = clean
    return x.item() / spread


@pytest.mark.parametrize("spread", [70.0, 10.0, 1.0, 0.5])
def test_twenty_steps_keep_the_variance_of_tones_and_details(spread: float) -> None:
    ours, usual = (spread_kept(schedule_of(config_of(made), 20), spread) for made in (build_scheduler(), cosine()))
    assert ours > 0.75
    assert 0.87 < spread_kept(schedule_of(config_of(build_scheduler()), 20), spread, second_order=True) < 1.03
    if spread > 50:
        assert usual < 0.25, "for this the schedule is another one"


def test_the_network_is_conditioned_on_the_same_levels_under_another_schedule() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=8,
    )  # fmt: skip
    # Networks that have learnt are smooth in the timestep; the fast waves of a new one are no part of what they know.
    unet.time_embedding.linear_1.weight.data[:, [*range(9), *range(16, 25)]] = 0
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 16)
    before, now = cosine().alphas_cumprod.double().numpy(), noise_levels()

    def told(levels: Sequence[int]) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([unet(x, timestep, context, return_dict=False)[0] for timestep in levels])

    pairs = [(int(np.abs(before - now[timestep]).argmin()), timestep) for timestep in (60, 200, 400, 600)]
    old, moved = told([a for a, _ in pairs]), told([b for _, b in pairs])
    retime(unet, before, now)
    again = told([b for _, b in pairs])
    assert (again - old).square().mean() < 0.1 * (moved - old).square().mean()
    retime(unet, now, now)
    assert torch.equal(told([b for _, b in pairs]), again)


def test_a_training_starts_from_an_exported_model_and_exports_into_it(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own = tmp_path / "model", tmp_path / "work"
    shutil.copytree(EMBEDDED, model)
    own.mkdir()
    for name in ("pixels.npy", "records.csv"):
        (own / name).symlink_to(work / name)
    monkeypatch.setattr(sheets, "WATCHED", (("a coast",),))
    monkeypatch.setattr(denoiser, "VALIDATE_EVERY", 6)
    compiled: list[object] = []

    def compile_(function: object, **given: object) -> object:
        """What is compiled computes the same; here it matters that the names of the weights stay."""
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    for script, options in (
        (latents, ["--init", str(model)]),
        (denoiser, ["--init", str(model), "--crops", "0", "--batch", "2", "--minutes", "0.2", "--compile"]),
        (export, ["--denoiser-only", "--output", str(model)]),
    ):
        monkeypatch.setattr(sys, "argv", ["", "--work", str(own), *options])
        monkeypatch.setattr(script, "flush_denormals", lambda: None, raising=False)  # of the whole process
        script.main()
    assert len(compiled) == 1
    curve = Log(own / "denoiser-validation.csv", 10_000).rows
    assert [row["step"] for row in curve][:1] == [0]
    assert len(curve) > 1
    assert all(row["t0-199"] > 0 and row["t800-999"] > 0 for row in curve)
    assert (own / "sheets/000.jpg").exists()
    facts = json.loads((own / "latents.json").read_text())
    assert facts["scaling_factor"] == json.loads((model / "vae/config.json").read_text())["scaling_factor"]
    before, after = (load_file(folder / "vae/diffusion_pytorch_model.safetensors") for folder in (EMBEDDED, model))
    assert str(tmp_path) not in (model / "vae/config.json").read_text()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before), "the autoencoder is as it was"
    request = Request("a coast", Size(256, 256), model=str(model), method=Method(steps=1, guidance_scale=1.0))
    assert generate(request).pixels.std() > 0


def test_averaged_weights_follow_the_last_steps_of_a_training() -> None:
    """Each step's weights are its number: how far the average is behind is how long it is taken over."""
    averaged = [torch.zeros(1)]
    for count in range(20_000):
        average(averaged, [torch.tensor([float(count)])], count)
        if count == 4_000:
            assert count - averaged[0].item() == pytest.approx(1000 * (1 - math.exp(-4)), abs=20)
    assert averaged[0].item() == pytest.approx(20_000 * (1 - 1 / 8.94), abs=50)
