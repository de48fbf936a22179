"""Train the network that draws texture into decoded pictures (``pixelsmith.families.texture_network``).

    python -m training.sampled               # latents of the model's own making
    python -m training.texture
    python -m training.export --texture-only # beside the model

What 16 channels at an eighth of the resolution do not tell of a picture can only be invented. Trained for the smallest
error a decoder draws the mean of all that could be there, which is blur. It stays as it is. What it decodes is given
texture by a network that is trained adversarially (arXiv 2012.09841): a second one learns to tell what it draws from
what is real. That costs decibels, as anything but the mean does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pixelsmith.families.loading.placing import to_channels_last
from pixelsmith.families.texture_network import TextureModel, blurred
from training.autoencoder import as_input, load_autoencoder
from training.data import load_pixels, load_records
from training.loop import Losses, balanced_weights, flush_denormals, for_minutes, half_precision, held, train
from training.measures.peaks import FAINT, peaks

SCALE = 8
"""Pixels per latent."""
JUDGED, CONTEXT = 12, 1
"""Latents a side that losses are taken of, and those around them that are decoded as well."""
OCTAVES = 3
EMA = 0.995
STEEP, STEEP_EVERY = 1e-4, 4
"""What the steepness of the discriminator weighs, and every how many steps it is taken, for so many."""
JUDGING = 1.0
"""The learning rate of the discriminator, against that of the network."""
RAMP = (100, 400)
"""Steps between which the adversarial losses come in: the discriminator first learns what it is to judge."""


class Discriminator(nn.Module):
    """Tells real pictures from drawn ones, place by place, and knows what was decoded there.

    Each place is judged by the 34 pixels around it: enough that a texture that comes again is seen to do so, and few
    enough that what a picture is of does not matter. That it sees what was decoded tells it where texture belongs.
    """

    def __init__(self) -> None:
        super().__init__()
        convolutions = (
            nn.Conv2d(9, 48, 4, 2, 1),
            nn.Conv2d(48, 96, 4, 2, 1),
            nn.Conv2d(96, 128, 3, 1, 1),
            nn.Conv2d(128, 128, 3, 1, 1),
        )
        self.layers = nn.ModuleList(nn.Sequential(layer, nn.LeakyReLU(0.2)) for layer in convolutions)
        self.verdict = nn.Conv2d(128, 1, 3, 1, 1)

    def forward(self, pixels: Tensor, smooth: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Pixels and what was decoded there (n, 3, H, W), in -1..1, to verdicts (n, 1, H/4, W/4), above 0 for real,
        and the features before them.
        """
        x, features = torch.cat([pixels, 8 * (pixels - smooth), 8 * (pixels - blurred(pixels, 1))], dim=1), []
        x = x.contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return self.verdict(x), features


def local_powers(pixels: Tensor) -> list[Tensor]:
    """The mean square of each of the OCTAVES finest octaves in neighbourhoods of 16 pixels, finest first."""
    powers = []
    for octave in range(OCTAVES):
        coarser = blurred(pixels, 2**octave)
        powers.append(F.avg_pool2d((pixels - coarser).square(), 16, stride=8))
        pixels = coarser
    return powers


def power_loss(output: Tensor, target: Tensor) -> Tensor:
    """How far the powers of octaves are off, neighbourhood by neighbourhood: the mean absolute logarithm of ratios."""
    off = [
        ((ours + FAINT) / (theirs + FAINT)).log().abs().mean()
        for ours, theirs in zip(local_powers(output), local_powers(target), strict=True)
    ]
    return torch.stack(off).mean()


def opponent(pixels: Tensor) -> Tensor:
    """Red, green and blue (n, 3, H, W) as grey, and what red and blue have more than that."""
    grey = pixels.mean(1, keepdim=True)
    return torch.cat([grey, pixels[:, ::2] - grey], dim=1)


def feature_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """The mean absolute difference of features, of each layer against their size."""
    off = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(off).mean()


DIRECT = ("pixels", "colours", "blurred", "power", "peaks")
"""Losses that need no other network."""


@dataclass(frozen=True)
class Weights:
    """Of the losses: absolute and those of the adversarial ones against the gradient of all others."""

    pixels: float = 6.0
    colours: float = 2.0
    blurred: float = 0.3
    power: float = 0.3
    peaks: float = 0.08
    adversarial: float = 1.0
    features: float = 0.1


@dataclass(frozen=True, eq=False)
class Draw:
    """Random squares of training pictures with their latents, and of latents that the model made.

    ``latents`` (N, c, 32, 32), ``pixels`` (N, 256, 256, 3), ``weights`` (N,) of the draw, ``sampled`` (M, c, 32, 32).
    """

    latents: NDArray[np.float16]
    pixels: NDArray[np.uint8]
    weights: NDArray[np.float64]
    sampled: NDArray[np.float16]

    def encoded(self, rng: np.random.Generator, count: int) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
        """Latents, where of each the judged square lies, and its pixels in -1..1."""
        chosen = rng.choice(len(self.latents), size=count, p=self.weights)
        latents, places, corners = self._cut(self.latents, chosen, rng)
        side = JUDGED * SCALE
        found = [
            self.pixels[i, SCALE * y : SCALE * y + side, SCALE * x : SCALE * x + side]
            for i, (y, x) in zip(chosen, corners, strict=True)
        ]
        return latents, places, as_input(np.stack(found))

    def made(self, rng: np.random.Generator, count: int) -> tuple[Tensor, list[tuple[int, int]]]:
        """The same of what the model made, which has no pixels of its own."""
        latents, places, _ = self._cut(self.sampled, rng.integers(0, len(self.sampled), size=count), rng)
        return latents, places

    @staticmethod
    def _cut(
        source: NDArray[np.float16], chosen: Sequence[int] | NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[Tensor, list[tuple[int, int]], list[tuple[int, int]]]:
        """At the edge of a picture the judged square has no context there, as when a picture is decoded."""
        cuts, places, corners = [], [], []
        last = source.shape[-1] - JUDGED - 2 * CONTEXT
        for i in chosen:
            y, x = (int(v) for v in rng.integers(0, source.shape[-1] - JUDGED + 1, size=2))
            top, left = min(max(y - CONTEXT, 0), last), min(max(x - CONTEXT, 0), last)
            cuts.append(source[i, :, top : top + JUDGED + 2 * CONTEXT, left : left + JUDGED + 2 * CONTEXT])
            places.append((y - top, x - left))
            corners.append((y, x))
        return torch.from_numpy(np.stack(cuts).astype(np.float32)), places, corners


def judged(pixels: Tensor, places: Sequence[tuple[int, int]]) -> Tensor:
    """The judged squares of decoded pixels (n, 3, H, W)."""
    side = JUDGED * SCALE
    return torch.stack(
        [
            of[:, SCALE * y : SCALE * y + side, SCALE * x : SCALE * x + side]
            for of, (y, x) in zip(pixels, places, strict=True)
        ]
    )


class Adversaries:
    """A network that draws texture and its discriminator: one step of both. ``decoder`` stays as it is."""

    def __init__(
        self, model: TextureModel, decoder: nn.Module, draw: Draw, weights: Weights, batch: tuple[int, int]
    ) -> None:
        self.model, self._draw, self._weights, self._batch = model, draw, weights, batch
        self._decoder = decoder.requires_grad_(False)
        for part in (decoder, model):
            to_channels_last(part)
        average = get_ema_multi_avg_fn(EMA)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(model, multi_avg_fn=average)
        self.discriminator = Discriminator()
        self.optimizer = torch.optim.Adam(model.parameters(), betas=(0.5, 0.9))
        self.judging = torch.optim.Adam(self.discriminator.parameters(), betas=(0.5, 0.9))

    @property
    def state(self) -> Mapping[str, Any]:
        """All that a checkpoint keeps beside the optimizer of the model."""
        return {
            "model": self.model,
            "averaged": self.averaged,
            "discriminator": self.discriminator,
            "judging": self.judging,
        }

    def step(self, step: int, _: float) -> Losses:
        """Teach the discriminator, and leave the gradients of the model."""
        if step:
            self.averaged.update_parameters(self.model)
        rng, noise = np.random.default_rng((7, step)), torch.Generator().manual_seed(step)
        encoded, places, real = self._draw.encoded(rng, self._batch[0])
        made, made_places = self._draw.made(rng, self._batch[1])
        latents = torch.cat([encoded, made]).contiguous(memory_format=torch.channels_last)
        with half_precision(latents.device):
            with torch.no_grad():
                smooth = self._decoder(latents)
            drawn = torch.randn(len(smooth), self.model.config.noise_channels, *smooth.shape[-2:], generator=noise)
            output = judged(smooth + self.model(smooth, drawn), places + made_places).float()
        smooth = judged(smooth, places + made_places).float()
        # Real pixels are whole numbers, which would tell them from decoded ones.
        dithered = real + (torch.rand(real.shape, generator=noise) - 0.5) / 127.5
        losses = self._teach(step, dithered, output[: len(real)].detach(), smooth[: len(real)])
        return losses | self._learn(output, smooth, real, dithered, ramp_at(step))

    def _teach(self, step: int, real: Tensor, drawn: Tensor, smooth: Tensor) -> Losses:
        """The hinge loss of the discriminator, and its step."""
        for group in self.judging.param_groups:
            group["lr"] = JUDGING * self.optimizer.param_groups[0]["lr"]
        self.judging.zero_grad()
        with half_precision(real.device):
            of_real, of_drawn = (self.discriminator(pixels, smooth)[0].float() for pixels in (real, drawn))
        loss = F.relu(1 - of_real).mean() + F.relu(1 + of_drawn).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        steep = 0.0
        if step % STEEP_EVERY == 0:
            penalty = steepness(self.discriminator, torch.cat([real, drawn]), torch.cat([smooth, smooth]))
            (STEEP_EVERY * STEEP / 2 * penalty).backward()  # type: ignore[no-untyped-call]
            steep = penalty.item()
        self.judging.step()
        return {
            "judged_loss": loss.item(),
            **({"judged_steep": steep} if steep else {}),
            "judged_real": of_real.mean().item(),
            "judged_drawn": of_drawn.mean().item(),
        }

    def _learn(self, output: Tensor, smooth: Tensor, real: Tensor, dithered: Tensor, ramp: float) -> Losses:
        """Gradients of the model; the adversarial ones are taken against the size of all others."""
        count, weights = len(real), self._weights
        ours = output[:count]
        parts = {
            # Squares: edges, whose errors are large, are held, and faint texture is free.
            "pixels": F.mse_loss(ours, real),
            "blurred": F.l1_loss(blurred(ours, 1), blurred(real, 1)),
            # Texture is in brightness: colours are smooth, and known.
            "colours": F.l1_loss(opponent(ours)[:, 1:], opponent(real)[:, 1:]),
            "power": power_loss(opponent(ours), opponent(real)),
            # Of what the model made as well: no real picture of the same place is needed.
            "peaks": (peaks(output) - peaks(dithered)).square(),
        }
        with half_precision(output.device):
            verdicts, features = self.discriminator(output, smooth)
            with torch.no_grad():
                of_real = self.discriminator(dithered, smooth[:count])[1]
        parts["adversarial"] = -verdicts.float().mean()
        parts["features"] = feature_loss([layer[:count].float() for layer in features], [f.float() for f in of_real])
        direct = sum(getattr(weights, name) * parts[name] for name in DIRECT)
        (gradient,) = torch.autograd.grad(direct, output, retain_graph=True)
        size = gradient[:count].norm()
        for name in ("adversarial", "features"):
            (own,) = torch.autograd.grad(parts[name], output, retain_graph=True)
            gradient = gradient + ramp * getattr(weights, name) * size / (own[:count].norm() + 1e-12) * own
        output.backward(gradient)  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        powers = zip(*(local_powers(opponent(pixels)[:, :1]) for pixels in (ours.detach(), real)), strict=True)
        octaves = {f"octave_{i}": float(a.mean() / b.mean()) for i, (a, b) in enumerate(powers)}
        return {name: part.item() for name, part in parts.items()} | octaves


def steepness(discriminator: Discriminator, pixels: Tensor, smooth: Tensor) -> Tensor:
    """The squared gradient of verdicts at pixels (n, 3, H, W), a verdict (arXiv 1801.04406 and, of both, 2501.05441).

    What a discriminator that is too steep finds wrong is noise to a decoder.
    """
    pixels = pixels.detach().requires_grad_()
    verdicts = discriminator(pixels, smooth)[0]
    (gradient,) = torch.autograd.grad(verdicts.sum(), pixels, create_graph=True)
    squares: Tensor = gradient.square().sum() / verdicts.numel()
    return squares


def ramp_at(step: int) -> float:
    """0..1: how much of the adversarial losses counts."""
    first, last = RAMP
    return min(1.0, max(0.0, (step - first) / (last - first)))


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("training/work"), help="pictures and their latents")
    parser.add_argument("--output", type=Path, default=Path("training/work"), help="checkpoints and losses")
    parser.add_argument("--sampled", type=Path, default=Path("training/work/sampled.npy"))
    parser.add_argument("--init", type=Path, default=Path("src/pixelsmith/embedded/model"))
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--batch", type=int, default=8, help="squares of pictures in a step")
    parser.add_argument("--made", type=int, default=2, help="squares of latents that the model made")
    parser.add_argument("--peak", type=float, default=5e-4, help="learning rate")
    parser.add_argument("--cooldown", type=float, default=0.3)
    for name, value in vars(Weights()).items():
        parser.add_argument(f"--{name}", type=float, default=value, help="weight of this loss")
    args = parser.parse_args()
    torch.manual_seed(0)
    draw = Draw(
        np.load(args.work / "latents.npy", mmap_mode="r"),
        load_pixels(args.work),
        balanced_weights(load_records(args.work)),
        np.load(args.sampled, mmap_mode="r"),
    )
    weights = Weights(**{name: getattr(args, name) for name in vars(Weights())})
    decoder = load_autoencoder(args.init).decoder
    adversaries = Adversaries(TextureModel(), decoder, draw, weights, (args.batch, args.made))
    train(
        args.output / "texture.pt",
        for_minutes(args.minutes),
        held(args.peak, args.cooldown),
        adversaries.state,
        adversaries.optimizer,
        adversaries.step,
    )


if __name__ == "__main__":
    main()
