"""What a decoder makes of held-out pictures, against what is real: each figure beside its target.

    python -m training.restored --output restored src/pixelsmith/embedded/model another/model
    python -m training.restored --own-pixels training/work/own-pixels ...    # a second network for distances

A table for each model, with the texture that it recommends, and sheets to look at: ``STYLE.png`` with the
real picture first and a column for each model, ``made.png`` with latents of the first model's own making.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import Compute
from pixelsmith.evaluate.distances import frechet_distance
from pixelsmith.evaluate.features import Features, load_features
from pixelsmith.evaluate.judge import SIDE, STYLES
from pixelsmith.evaluate.structure import ssim
from pixelsmith.families import Family, find_model, load_family, read_facts
from training.autoencoder import as_input, load_autoencoder
from training.data import load_pixels, load_records
from training.figures import Figure, table
from training.loop import flush_denormals
from training.measures.peaks import peaks
from training.measures.realism import OCTAVES, octaves
from training.measures.reconstruction import psnr
from training.sampling import decoded

Pixels = NDArray[np.uint8]
LAGS = (8, 16, 24)
"""Pixels after which a texture that comes again at each latent would come again."""
WINDOW, FLATTEST = 64, 0.1
"""Side of the windows in which flat places are looked for, and which share of them counts as flat."""
BLACK = 12
"""Mean grey value below which a window is of night without lights."""
MOST_PERIOD = 0.02
"""Beyond that of real pictures."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out pictures of one style (n, 256, 256, 3), and which of their windows are flat."""

    style: str
    pixels: Pixels

    @property
    def flat(self) -> NDArray[np.bool_]:
        """The windows with the least structure coarser than a latent (m,)."""
        structure = coarse(windows(self.pixels)).std((1, 2))
        return np.asarray(structure <= np.quantile(structure, FLATTEST))


def windows(pixels: Pixels) -> NDArray[np.float64]:
    """Grey values of pictures (n, s, s, 3) in squares (m, WINDOW, WINDOW) side by side."""
    grey, count = pixels.astype(np.float64).mean(-1), pixels.shape[1] // WINDOW
    cut = grey.reshape(len(grey), count, WINDOW, count, WINDOW).swapaxes(2, 3)
    return np.asarray(cut.reshape(-1, WINDOW, WINDOW))


def coarse(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 8x8 pixels."""
    n, height, width = grey.shape
    return np.asarray(grey.reshape(n, height // 8, 8, width // 8, 8).mean((2, 4)))


def fine(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of windows (m, s, s) without the means of 8x8 pixels, enlarged smoothly."""
    means = torch.from_numpy(coarse(grey))[:, None]
    smooth = F.interpolate(means, grey.shape[1:], mode="bicubic")[:, 0]
    return np.asarray(grey - smooth.numpy())


def periods(grey: NDArray[np.float64]) -> list[float]:
    """How much of the fine texture of windows comes again after each of LAGS, down and to the right; -1..1."""
    texture = fine(grey)
    power = np.square(texture).mean((1, 2)) + 1e-6
    found = []
    for lag in LAGS:
        down = (texture[:, lag:] * texture[:, :-lag]).mean((1, 2))
        right = (texture[:, :, lag:] * texture[:, :, :-lag]).mean((1, 2))
        found.append(float(((down + right) / 2 / power).mean()))
    return found


def restored(family: Family, pixels: Pixels) -> Pixels:
    """Encoded and decoded, with the noise that the model recommends."""
    return drawn(family, torch.cat([family.autoencoder.encode(as_input(picture[None])).cpu() for picture in pixels]))


def drawn(family: Family, latents: torch.Tensor) -> Pixels:
    """What is decoded of latents (n, c, h, w) at the denoiser's scale."""
    strength = family.facts.recommended.texture
    return np.concatenate([decoded(family, values[None], [seed], strength) for seed, values in enumerate(latents)])


def cut_outs(pixels: Pixels) -> Pixels:
    """Quarters of pictures, at their own pixels."""
    return np.concatenate([pixels[:, y : y + SIDE, x : x + SIDE] for y in (0, SIDE) for x in (0, SIDE)])


def figures(held_out: HeldOut, ours: Pixels, networks: Sequence[Features]) -> list[Figure]:
    """Of one style."""
    style, real = held_out.style, held_out.pixels
    note = f"{len(real)} pictures"
    found = [
        Figure(f"power to the real, {place} octave, {style}", ratio, 0.8, 1.2, note)
        for place, ratio in zip(OCTAVES, (octaves(ours) / octaves(real)).tolist(), strict=True)
    ]
    for network in networks:
        a, b = (network(cut_outs(pixels)).features for pixels in (ours, real))
        name = Path(network.name).name
        found.append(Figure(f"Fréchet distance, {name}, quarters at own pixels, {style}", frechet_distance(a, b)))
    decibel = fmean(psnr(a, b) for a, b in zip(real, ours, strict=True))
    similar = fmean(ssim(a, b) for a, b in zip(real, ours, strict=True))
    found += [Figure(f"PSNR in dB, {style}", decibel), Figure(f"SSIM, {style}", similar)]
    drift = np.abs((ours.astype(np.float64) - real).mean((0, 1, 2))).max()
    found.append(Figure(f"mean colour off, of 255, {style}", float(drift), most=0.5))
    regular = float(peaks(as_input(ours)) / peaks(as_input(real)))
    found.append(Figure(f"frequencies that stand out of the finest octave, to the real, {style}", regular, 0.9, 1.1))
    flat = held_out.flat
    theirs, again = windows(real)[flat], windows(ours)[flat]
    for lag, drawn_again, really in zip(LAGS, periods(again), periods(theirs), strict=True):
        found.append(Figure(f"flat places, comes again after {lag} pixels, {style}", drawn_again,
                            most=max(really, 0) + MOST_PERIOD, note=f"real {really:.3f}"))  # fmt: skip
    spread = np.sqrt(np.square(fine(again)).mean() / np.square(fine(theirs)).mean())
    found.append(Figure(f"flat places, texture to the real, {style}", float(spread), 0.8, 1.2,
                        note=f"{flat.sum()} windows of {WINDOW} pixels"))  # fmt: skip
    black = windows(real).mean((1, 2)) < BLACK
    if style == "night" and black.any():
        spread = windows(ours)[black].std((1, 2)).mean() / windows(real)[black].std((1, 2)).mean()
        found.append(Figure("black places, standard deviation to the real, night", float(spread), 0.8, 1.2,
                            note=f"{black.sum()} windows of {WINDOW} pixels"))  # fmt: skip
    return found


def sheet(columns: Sequence[Pixels], side: int = 128, times: int = 2) -> Image.Image:
    """A row for each picture, a column for each version; the middle of each, ``times`` as large without smoothing."""
    start = (columns[0].shape[1] - side) // 2
    cut = [np.concatenate(list(pixels[:, start : start + side, start : start + side]), axis=0) for pixels in columns]
    whole = np.concatenate(cut, axis=1)
    return Image.fromarray(whole.repeat(times, axis=0).repeat(times, axis=1))


def made(file: Path, scaling_factor: float, count: int) -> torch.Tensor:
    """Some latents of ``training.sampled`` at the denoiser's scale."""
    latents = np.load(file)
    chosen = latents[np.linspace(0, len(latents) - 1, count).astype(int)].astype(np.float32)
    return torch.from_numpy(chosen) * scaling_factor


def load(model: str) -> Family:
    place = find_model(model)
    return load_family(place, read_facts(place, model), Compute())


@torch.inference_mode()
def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--output", type=Path, default=Path("training/work/restored"))
    parser.add_argument("--own-pixels", type=Path, help="the judge at own pixels (training.judge)")
    parser.add_argument("--sampled", type=Path, help="latents that the model made (training.sampled)")
    parser.add_argument("--most", type=int, help="pictures of each style; all without it")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    records, pixels = load_records(args.work), load_pixels(args.work)
    networks = [load_features(str(name)) for name in ("judge", args.own_pixels) if name]
    families = {model: load(model) for model in args.models}
    results: dict[str, list[Figure]] = {model: [] for model in args.models}
    for style in STYLES:
        of_style = [i for i, record in enumerate(records) if record.held_out and record.style == style]
        chosen = np.random.default_rng(0).permutation(of_style)[: args.most]
        held_out = HeldOut(style, np.stack([pixels[i] for i in chosen]))
        columns = [held_out.pixels]
        for model, family in families.items():
            columns.append(restored(family, held_out.pixels))
            results[model] += figures(held_out, columns[-1], networks)
        sheet([column[:6] for column in columns]).save(args.output / f"{style}.png")
    if args.sampled:
        latents = made(args.sampled, load_autoencoder(find_model(args.models[0])).config.scaling_factor, 8)
        sheet([drawn(family, latents) for family in families.values()], side=192).save(args.output / "made.png")
    for model, found in results.items():
        print(table({model: found}), flush=True)
    (args.output / "figures.md").write_text(table(results))


if __name__ == "__main__":
    main()
