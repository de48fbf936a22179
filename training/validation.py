"""The loss of the averaged weights on held-out pictures.

Latents, captions, noise and timesteps are always the same, so that two rows differ only by the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.batches import Batches
from training.checkpoints import Log
from training.loop import Losses
from training.network import TIMESTEPS

BANDS = 5
"""The number of equal ranges of timesteps whose losses are logged separately."""
BATCH = 32
ROUNDS = 2
"""The number of timesteps for each held-out picture."""
SquaredErrors = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Maps latents (n, c, h, w), tokens (n, 32), noise (n, c, h, w), timesteps (n,) to mean squared errors of v (n,)."""


def by_level(errors: Tensor, timestep: Tensor) -> Losses:
    """The mean of errors (n,), and that of each range of timesteps (n,) that occurs: ``t0-199`` and so on."""
    width, losses = TIMESTEPS // BANDS, {"loss": float(errors.mean())}
    for first in range(0, TIMESTEPS, width):
        of_band = errors[(timestep >= first) & (timestep < first + width)]
        if len(of_band):
            losses[f"t{first}-{first + width - 1}"] = float(of_band.mean())
    return losses


def spread_timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """Stratified random timesteps (count,), because losses differ more between levels than between pictures."""
    share = (rng.permutation(count) + rng.random(count)) / count
    return torch.from_numpy((share * TIMESTEPS).astype(np.int64))


@torch.inference_mode()
def validate(batches: Batches, squared_errors: SquaredErrors) -> Losses:
    """The losses on all held-out pictures; empty if no picture is held out."""
    errors, timesteps = [], []
    for number in range(ROUNDS):
        for i, (z, ids) in enumerate(batches.held_out(BATCH)):
            timestep = spread_timesteps(np.random.default_rng((6, number, i)), len(z)).to(z.device)
            generator = torch.Generator(z.device).manual_seed(1_000_000 * (1 + number) + i)
            noise = torch.randn(z.shape, generator=generator, device=z.device)
            errors.append(squared_errors(z, ids, noise, timestep))
            timesteps.append(timestep)
    return by_level(torch.cat(errors), torch.cat(timesteps)) if errors else {}


@dataclass(frozen=True, eq=False)
class Validation:
    """Writes a row of losses at each call, which returns whether they have not fallen for ``patience`` seconds."""

    batches: Batches
    squared_errors: SquaredErrors
    log: Path
    patience: float

    def __call__(self, step: int, seconds: float) -> bool:
        losses = validate(self.batches, self.squared_errors)
        if not losses:
            return False
        log = Log(self.log, step - 1)
        log.append({"step": step, "seconds": round(seconds)} | {name: round(v, 6) for name, v in losses.items()})
        best = min(log.rows, key=lambda row: row["loss"])
        stale = seconds - best["seconds"] >= self.patience
        if stale:
            print(f"the loss on held-out pictures has not fallen since step {best['step']:.0f}", flush=True)
        return stale
