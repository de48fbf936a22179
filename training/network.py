"""The denoiser's network, its schedule of noise levels, and how a training starts from an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.text import WIDTH

TIMESTEPS = 1000
EMA = 0.999
AVERAGED_POWER = 6.94
"""The power with which averaged weights have a relative standard deviation of a tenth of the training."""
ParamList = tuple[Tensor, ...] | list[Tensor]


def build_denoiser(latent_channels: int) -> UNet2DConditionModel:
    """A U-Net of three levels with cross-attention on the two lower ones."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=latent_channels,
        out_channels=latent_channels,
        layers_per_block=1,
        block_out_channels=(80, 160, 224),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def parts_of(averaged: AveragedModel) -> nn.ModuleDict:
    """The averaged ``unet`` and ``text_encoder``."""
    return cast("nn.ModuleDict", averaged.module)


def average(averaged: ParamList, current: ParamList, count: Tensor | int) -> None:
    """Average weights over the last thousand steps or so, in a long training over the last ninth of its steps.

    The latter with the power AVERAGED_POWER of each step's number (arXiv 2312.02696, section 3.1).
    """
    decay = max(EMA, (1 - 1 / (int(count) + 1)) ** (AVERAGED_POWER + 1))
    get_ema_multi_avg_fn(decay)(averaged, current, count)  # type: ignore[no-untyped-call]


def noise_levels() -> NDArray[np.float64]:
    """ᾱ (1000,) of a schedule whose σ/α is u/(1−u)² at the share u of its timesteps, pure noise at the last one.

    The means of whole pictures spread seventy times as far as single latents, so what tone a picture has is decided
    where the noise is a hundred times the signal. The cosine schedule passes all of that in its first of twenty steps,
    after which every picture of a caption has the same tone.
    """
    u = np.arange(1, TIMESTEPS + 1) / TIMESTEPS
    signal, noise = (1 - u) ** 2, u
    return np.asarray(signal**2 / (signal**2 + noise**2))


def build_scheduler() -> DDIMScheduler:
    """The schedule of ``noise_levels``, with the settings that v-prediction needs at sampling time."""
    levels = noise_levels()
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        trained_betas=(1 - levels / np.concatenate([[1.0], levels[:-1]])).tolist(),
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def start_from(model: nn.ModuleDict, folder: Path) -> None:
    """Copy every weight of an exported model that has the same name and shape here."""
    for name, part in model.items():
        weights = part.state_dict()
        (file,) = (folder / name).glob("*.safetensors")
        found = {key: value for key, value in load_file(file).items() if weights[key].shape == value.shape}
        part.load_state_dict(weights | found)
        print(f"{name}: {len(found)} of {len(weights)} tensors copied", flush=True)
    before = DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    retime(model["unet"], before.double().numpy(), noise_levels())


@torch.no_grad()
def retime(unet: UNet2DConditionModel, before: NDArray[np.float64], now: NDArray[np.float64]) -> None:
    """Refit the timestep embedding to another schedule, so that each noise level keeps its embedding.

    Both are ᾱ (1000,). Least squares on the first layer, a linear one.
    """
    if np.allclose(before, now, atol=1e-6):
        return
    log_snr = [np.log(levels.clip(1e-20) / (1 - levels)) for levels in (before, now)]
    timesteps = np.arange(len(now), dtype=np.float64)
    same = np.interp(-log_snr[1], -log_snr[0], timesteps)
    layer = unet.time_embedding.linear_1
    seen, meant = (unet.time_proj(torch.from_numpy(t)).double() for t in (timesteps, same))
    seen = torch.cat([seen, torch.ones(len(seen), 1, dtype=torch.double)], dim=1)
    told = meant @ layer.weight.double().T + layer.bias.double()
    # Ridge regression, so that unneeded weights stay small.
    square = seen.T @ seen + torch.eye(seen.shape[1], dtype=torch.double)
    fitted = torch.linalg.solve(square, seen.T @ told)
    layer.weight.copy_(fitted[:-1].T)
    layer.bias.copy_(fitted[-1])
