"""Train the network that enlarges latents by 2 (``pixelsmith.families.latent_upsampler_network``).

    python -m training.latent_upsampler --data DIR
    python -m training.export --latent-upsampler-only    # into the model's folder

Pairs of the same place, of which one has twice the resolution: training pictures and their halves, and tiles of the map
with the four tiles of the next zoom, for the styles whose renditions agree. Noise on the inputs makes the network
robust to what a denoiser leaves.

The smallest error of latents is reached by their mean, which is blurred. A part of the loss is therefore computed on
decoded squares: the errors of pixels and of their local means, and the powers of their octaves.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderDC
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pixelsmith.families.family import DOUBLE
from pixelsmith.families.latent_upsampler_network import LatentUpsamplerModel
from pixelsmith.families.loading.placing import to_channels_last
from training.autoencoder import as_input, load_autoencoder
from training.data import SIZE, load_pixels, load_records
from training.loop import Losses, balanced_weights, be_modest, flush_denormals, for_minutes, half_precision, held, train
from training.mosaics import tiles_of
from training.texture import judged, opponent, power_loss
from training.truth import Place

HALF = SIZE // DOUBLE
AGREEING = ("satellite", "night")
"""Styles whose tiles show the same at two zooms: 28 to 35 dB between a tile and the four finer ones, scaled down.
Watercolors have other colours and other roads at each zoom (17 to 19 dB)."""
MOST_NOISE = 0.1
"""The largest standard deviation of the noise on inputs, at the denoiser's scale."""
JUDGED, CONTEXT, PIXELS = 12, 1, 8
"""The side in latents of the decoded square, the margin around it that is decoded as well, and pixels per latent."""


@dataclass(frozen=True)
class Weights:
    """The weights of losses."""

    latents: float = 1.0
    pixels: float = 2.0
    means: float = 4.0
    power: float = 0.3


@dataclass(frozen=True)
class Zoomed:
    """The indices of a tile among the pictures, and of the four tiles of the next zoom, row by row."""

    coarse: int
    fine: tuple[int, ...]


def zoomed(rows: Sequence[dict[str, str]], held_out: bool, styles: Sequence[str] = AGREEING) -> list[Zoomed]:
    """The tiles that exist at two zooms, from the rows of ``captions.csv``."""
    tiles, found = tiles_of(rows), []
    for (style, zoom, column, row), tile in sorted(tiles.items()):
        inner: list[Place] = [(style, zoom + 1, 2 * column + x, 2 * row + y) for y in (0, 1) for x in (0, 1)]
        if style in styles and tile.held_out == held_out and all(place in tiles for place in inner):
            found.append(Zoomed(tile.index, tuple(tiles[place].index for place in inner)))
    return found


def joined(pictures: NDArray[np.uint8], four: Sequence[int]) -> NDArray[np.uint8]:
    """The mosaic (512, 512, 3) of four pictures, row by row."""
    a, b, c, d = (pictures[index] for index in four)
    return np.concatenate([np.concatenate([a, b], axis=1), np.concatenate([c, d], axis=1)])


def halved(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (s, s, 3) at half its size."""
    side = len(picture) // DOUBLE
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Training pairs (128, 128, 3) and (256, 256, 3) of the same place.

    ``pixels`` (N, 256, 256, 3); ``weights`` (N,) of their draw; ``zoomed``: tiles of two zooms among them.
    """

    pixels: NDArray[np.uint8]
    weights: NDArray[np.float64]
    zoomed: Sequence[Zoomed]

    def halves(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Pictures at half their size, and their indices."""
        chosen = rng.choice(len(self.pixels), size=count, p=self.weights)
        return np.stack([halved(self.pixels[i]) for i in chosen]), chosen

    def zooms(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Parts of tiles, and the same parts of the mosaics of the next zoom."""
        small, large = [], []
        for i in rng.integers(0, len(self.zoomed), size=count):
            y, x = rng.integers(0, SIZE - HALF + 1, size=2)
            small.append(self.pixels[self.zoomed[i].coarse][y : y + HALF, x : x + HALF])
            whole = joined(self.pixels, self.zoomed[i].fine)
            large.append(whole[DOUBLE * y : DOUBLE * y + SIZE, DOUBLE * x : DOUBLE * x + SIZE])
        return np.stack(small), np.stack(large)


class Trainer:
    """A training step. ``latents`` (N, c, 32, 32): the encoded pictures; ``batch``: of halves, and of zooms."""

    def __init__(
        self,
        model: LatentUpsamplerModel,
        autoencoder: AutoencoderDC,
        pairs: Pairs,
        latents: NDArray[np.float16],
        weights: Weights,
        batch: tuple[int, int],
    ) -> None:
        self._model, self._autoencoder = model, autoencoder.requires_grad_(False)
        for part in (model, autoencoder):
            to_channels_last(part)
        self._pairs, self._latents, self._weights, self._batch = pairs, latents, weights, batch
        self.optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)

    def step(self, step: int, _: float) -> Losses:
        """Compute the gradients of the model."""
        rng, noise = np.random.default_rng((11, step)), torch.Generator().manual_seed(step)
        small, target = self._drawn(rng)
        level = MOST_NOISE * torch.rand(len(small), 1, 1, 1, generator=noise)
        small = small + level * torch.randn(small.shape, generator=noise)
        with half_precision(small.device):
            output = self._model(small.contiguous(memory_format=torch.channels_last)).float()
            corners = [tuple(int(v) for v in rng.integers(0, output.shape[-1] - JUDGED + 1, 2)) for _ in output]
            ours = self._decoded(output, corners)
            with torch.no_grad():
                theirs = self._decoded(target, corners)
        parts = {
            "latents": F.l1_loss(output, target),
            "pixels": F.l1_loss(ours, theirs),
            "means": F.l1_loss(F.avg_pool2d(ours, PIXELS), F.avg_pool2d(theirs, PIXELS)),
            "power": power_loss(opponent(ours), opponent(theirs)),
        }
        sum(getattr(self._weights, name) * part for name, part in parts.items()).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        return {name: part.item() for name, part in parts.items()}

    def _drawn(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Latents of small pictures (n, c, 16, 16) and of large ones (n, c, 32, 32), at the denoiser's scale."""
        halves, chosen = self._pairs.halves(rng, self._batch[0])
        coarse, fine = self._pairs.zooms(rng, self._batch[1])
        known = torch.from_numpy(self._latents[chosen].astype(np.float32))
        target = torch.cat([self._autoencoder.config.scaling_factor * known, self._encoded(fine)])
        return self._encoded(np.concatenate([halves, coarse])), target

    @torch.no_grad()
    def _encoded(self, pictures: NDArray[np.uint8]) -> Tensor:
        with half_precision(self._autoencoder.device):
            x = as_input(pictures).contiguous(memory_format=torch.channels_last)
            latents: Tensor = self._autoencoder.config.scaling_factor * self._autoencoder.encode(x).latent.float()
        return latents

    def _decoded(self, latents: Tensor, corners: Sequence[tuple[int, ...]]) -> Tensor:
        """The pixels of squares of latents with these top left corners (n, 3, H, W)."""
        last, cuts, places = latents.shape[-1] - JUDGED - 2 * CONTEXT, [], []
        for of, (y, x) in zip(latents, corners, strict=True):
            top, left = min(max(y - CONTEXT, 0), last), min(max(x - CONTEXT, 0), last)
            side = JUDGED + 2 * CONTEXT
            cuts.append(of[:, top : top + side, left : left + side])
            places.append((y - top, x - left))
        cut = torch.stack(cuts).contiguous(memory_format=torch.channels_last)
        return judged(self._autoencoder.decode(cut / self._autoencoder.config.scaling_factor).sample, places).float()


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the archives and captions.csv")
    parser.add_argument("--work", type=Path, default=Path("training/work"), help="pictures and their latents")
    parser.add_argument("--output", type=Path, default=Path("training/work"), help="checkpoints and losses")
    parser.add_argument("--init", type=Path, default=Path("src/pixelsmith/embedded/model"))
    parser.add_argument("--minutes", type=float, default=28)
    parser.add_argument("--batch", type=int, default=6, help="halved pictures in a step")
    parser.add_argument("--zooms", type=int, default=2, help="tiles of two zooms in a step")
    parser.add_argument("--peak", type=float, default=1.2e-3, help="learning rate")
    parser.add_argument("--cooldown", type=float, default=0.4)
    parser.add_argument("--threads", type=int, help="number of cores; all by default")
    parser.add_argument("--nice", type=int, default=0, help="niceness from 0 to 19, which only uses idle time")
    for name, value in vars(Weights()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help="weight of this loss")
    args = parser.parse_args()
    be_modest(args.threads, args.nice)
    torch.manual_seed(0)
    with (args.data / "captions.csv").open(newline="") as file:
        of_two = zoomed(list(csv.DictReader(file)), held_out=False)
    pairs = Pairs(load_pixels(args.work), balanced_weights(load_records(args.work)), of_two)
    autoencoder = load_autoencoder(args.init)
    model = LatentUpsamplerModel(autoencoder.config.latent_channels)
    weights = Weights(**{name: getattr(args, name) for name in vars(Weights())})
    latents = np.load(args.work / "latents.npy", mmap_mode="r")
    trainer = Trainer(model, autoencoder, pairs, latents, weights, (args.batch, args.zooms))
    train(
        args.output / "latent_upsampler.pt",
        for_minutes(args.minutes),
        held(args.peak, args.cooldown),
        {"model": model},
        trainer.optimizer,
        trainer.step,
    )


if __name__ == "__main__":
    main()
