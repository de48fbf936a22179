"""Train the denoiser and its text encoder on the latents: v-prediction, zero terminal SNR, captions dropped in a tenth.

    python -m training.denoiser --work DIR --minutes 2400 --init src/pixelsmith/embedded/model --threads 1 --nice 19

The same command starts and continues a training. It can run unattended: it pauses while there is a file ``pause`` in
DIR, a signal ends it with a checkpoint, and it ends when the loss on held-out pictures has stopped falling.

On a GPU, where half an hour is worth a day of two cores: ``--device cuda --batch 256``.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.batches import SIDE, Batches
from training.loop import (
    Chore,
    Losses,
    be_modest,
    flush_denormals,
    for_minutes,
    half_precision,
    held,
    train,
)
from training.network import average, build_denoiser, build_scheduler, parts_of, start_from
from training.optimizer import MuonWithAdamW
from training.sheets import Watch
from training.text import build_text_encoder
from training.validation import Validation, by_level, spread_timesteps

VALIDATE_EVERY, SHEET_EVERY = 1800, 3600
"""Intervals in seconds of core time."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training.

    - ``init``: an exported model to start from; ``minutes``: of core time; ``peak``: the highest learning rate.
    - ``cooldown``: the last share of the training, in which the learning rate falls to zero.
    - ``crops``: the first share of the training, on crops of 16x16 latents, three times ``batch`` in a batch.
    - ``mosaics``: whether crops of mosaics are used too.
    - ``patience``: the hours of core time without a lower loss on held-out pictures after which it ends.
    - ``compile``: whether the network is compiled, which takes minutes at the first start and makes each step faster.
    """

    work: Path
    init: Path | None
    minutes: float
    peak: float
    cooldown: float
    crops: float
    mosaics: bool
    batch: int
    patience: float
    compile: bool
    device: str


class Errors:
    """The squared errors of a model's v at given noise levels."""

    def __init__(self, model: nn.ModuleDict, device: torch.device) -> None:
        self._model = model
        self._alphas_cumprod: Tensor = build_scheduler().alphas_cumprod.to(device)

    def __call__(self, z: Tensor, ids: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The means (n,) for latents (n, c, h, w), tokens (n, 32), noise like the latents and timesteps (n,)."""
        alpha = self._alphas_cumprod[timestep].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - self._alphas_cumprod[timestep]).sqrt().view(-1, 1, 1, 1)
        with half_precision(z.device):
            context = self._model["text_encoder"](ids).last_hidden_state
            v = self._model["unet"](alpha * z + sigma * noise, timestep, context, return_dict=False)[0]
        squares: Tensor = (v.float() - (alpha * noise - sigma * z)).square()
        return squares.mean((1, 2, 3))


def train_denoiser(settings: Settings) -> None:
    torch.manual_seed(0)
    work, device = settings.work, torch.device(settings.device)
    batches = Batches(work, device, settings.init, settings.mosaics)
    unet, text_encoder = build_denoiser(batches.latent_channels), build_text_encoder(batches.tokenizer)
    model = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    if settings.init:
        start_from(model, settings.init)
    model.to(device)["unet"].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = AveragedModel(model, multi_avg_fn=average)
    optimizer = MuonWithAdamW(model)
    if settings.compile:
        # In place, after the copy for the averaged weights, so that the names of the weights stay the same.
        unet.compile(dynamic=False)
    squared_errors, generator = Errors(model, device), torch.Generator(device)

    def step_fn(step: int, share: float) -> Losses:
        rng = np.random.default_rng((2, step))
        if step > 0:
            ema.update_parameters(model)
        small = share < settings.crops
        z, ids = batches.draw(rng, SIDE // 2 if small else SIDE, (3 if small else 1) * settings.batch)
        noise = torch.randn(z.shape, generator=generator.manual_seed(step), device=device)
        timestep = spread_timesteps(rng, len(z)).to(device)
        errors = squared_errors(z, ids, noise, timestep)
        errors.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        return by_level(errors.detach(), timestep)

    averaged, curve = parts_of(ema), work / "denoiser-validation.csv"
    validation = Validation(batches, Errors(averaged, device), curve, 3600 * settings.patience)
    watch = Watch(work, settings.init, averaged, batches.tokenizer)
    chores = (Chore(VALIDATE_EVERY, validation), Chore(SHEET_EVERY, watch))
    state, rate = {"model": model, "ema": ema}, held(settings.peak, settings.cooldown)
    train(work / "denoiser.pt", for_minutes(settings.minutes), rate, state, optimizer, step_fn, chores)


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--minutes", type=float, default=80, help="core time of the training with its continuations")
    parser.add_argument("--patience", type=float, default=10, help="core-hours without a lower loss that end it")
    parser.add_argument("--init", type=Path, help="an exported model to start from")
    parser.add_argument("--peak", type=float, default=1e-3, help="the highest learning rate")
    parser.add_argument(
        "--cooldown", type=float, default=0.15,
        help="the last share of the training, in which the rate falls to zero; to end a training early, reduce "
        "--minutes",
    )  # fmt: skip
    parser.add_argument(
        "--crops", type=float, default=0.5,
        help="the first share of the training, on 16x16 crops of the latents, a quarter of the work",
    )  # fmt: skip
    parser.add_argument("--mosaics", action="store_true", help="use the crops of training.mosaics too")
    parser.add_argument("--compile", action="store_true", help="compile the network: minutes for a faster step")
    parser.add_argument("--device", default="cpu", help="the device of the network, in bfloat16 if supported")
    parser.add_argument("--batch", type=int, default=10, help="pictures per step; three times as many crops")
    parser.add_argument("--threads", type=int, help="number of cores; all by default")
    parser.add_argument("--nice", type=int, default=0, help="niceness from 0 to 19, which only uses idle time")
    args = vars(parser.parse_args())
    be_modest(args.pop("threads"), args.pop("nice"))
    train_denoiser(Settings(**args))


if __name__ == "__main__":
    main()
