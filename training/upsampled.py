"""Compare enlargements by 2 of held-out pictures with the real ones: of pixels by kernels, of latents by the network.

    python -m training.upsampled --data DIR --output upsampled

Mosaics of four held-out tiles, and the tile of the same place at the zoom before: scaled down from the mosaic, and for
the styles whose renditions agree as it is. All enlargements are encoded and decoded, as guides of a stage are; ``real``
is what the autoencoder makes of the real picture. Printed are PSNR in dB and SSIM to the latter, the power of the three
finest octaves relative to it, and the Fréchet distance of quarters in the judge's features; and sheets are written.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import Compute
from pixelsmith.canvas import Array
from pixelsmith.evaluate.distances import frechet_distance
from pixelsmith.evaluate.features import load_features
from pixelsmith.evaluate.judge import SIDE, STYLES
from pixelsmith.evaluate.structure import ssim
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.geometry import Size
from pixelsmith.pixels.resample import Kernel, Resized
from training.autoencoder import as_input, as_pixels
from training.data import load_pixels
from training.latent_upsampler import AGREEING, halved, joined, zoomed
from training.loop import flush_denormals
from training.measures.realism import octaves
from training.measures.reconstruction import psnr

Pixels = NDArray[np.uint8]
Way = Callable[[Family, Pixels], torch.Tensor]
"""A picture (h, w, 3) to the latents (1, c, H, W) of its enlargement by 2."""


def encoded(family: Family, picture: Pixels) -> torch.Tensor:
    return family.autoencoder.encode(as_input(picture[None]))


def by_kernel(kernel: Kernel) -> Way:
    """Enlarge the pixels, then encode."""

    def enlarge(family: Family, picture: Pixels) -> torch.Tensor:
        source = Array(torch.from_numpy(picture.copy()).permute(2, 0, 1))
        large = Resized(source, source.size, source.size.scaled(2), kernel)
        return encoded(family, np.asarray(large.read(large.size.window).permute(1, 2, 0)))

    return enlarge


def interpolated(family: Family, picture: Pixels) -> torch.Tensor:
    """Interpolate the latents."""
    scale, latents = family.facts.latent_scale, Array(encoded(family, picture)[0].cpu())
    size = Size(picture.shape[1], picture.shape[0])
    large = Resized(latents, size, size.scaled(2), "bicubic", unit=scale)
    return large.read(large.size.window)[None]


def learned(family: Family, picture: Pixels) -> torch.Tensor:
    """Double the latents by the model's network."""
    if family.latent_upsampler is None:
        raise SystemExit("the model has no network that enlarges latents")
    return family.latent_upsampler(encoded(family, picture))


WAYS: Mapping[str, Way] = {
    "bicubic": by_kernel("bicubic"),
    "lanczos": by_kernel("lanczos"),
    "bicubic, of latents": interpolated,
    "learned": learned,
}


def quarters(pictures: list[Pixels]) -> Pixels:
    """Squares side by side at full size (n, SIDE, SIDE, 3)."""
    places = range(0, pictures[0].shape[0], SIDE)
    return np.stack([picture[y : y + SIDE, x : x + SIDE] for picture in pictures for y in places for x in places])


@torch.inference_mode()
def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--most", type=int, help="mosaics of each style; all without it")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    place = find_model(args.model)
    family, pixels = load_family(place, read_facts(place, args.model), Compute()), load_pixels(args.work)
    judge = load_features("judge")
    with (args.data / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for style in STYLES:
        pairs = zoomed(rows, held_out=True, styles=(style,))[: args.most]
        if not pairs:
            continue
        mosaics = [joined(pixels, pair.fine) for pair in pairs]
        sources = {"scaled down": [halved(mosaic) for mosaic in mosaics]}
        if style in AGREEING:
            sources["its own tile"] = [pixels[pair.coarse] for pair in pairs]
        real = [as_pixels(family.autoencoder.decode(encoded(family, mosaic)))[0] for mosaic in mosaics]
        truth = judge(quarters(mosaics)).features
        for source, small in sources.items():
            made = {name: [as_pixels(family.autoencoder.decode(way(family, one)))[0] for one in small]
                    for name, way in WAYS.items()}  # fmt: skip
            for name, ours in {**made, "real": real}.items():
                decibel = fmean(min(psnr(a, b), 99.0) for a, b in zip(real, ours, strict=True))
                similar = fmean(ssim(a, b) for a, b in zip(real, ours, strict=True))
                power = ", ".join(f"{x:.2f}" for x in octaves(np.stack(ours)) / octaves(np.stack(real)))
                distance = frechet_distance(judge(quarters(ours)).features, truth)
                print(f"{style}, {source}, {len(ours)}: {name:20s} {decibel:5.2f} dB  {similar:.3f}  power {power}  "
                      f"Fréchet {distance:.2f}", flush=True)  # fmt: skip
            columns = [[one[128:384, 128:384] for one in ours[:4]] for ours in (*made.values(), real)]
            sheet = np.concatenate([np.concatenate(column, axis=0) for column in columns], axis=1)
            Image.fromarray(sheet).save(args.output / f"{style}-{source.replace(' ', '-')}.png")


if __name__ == "__main__":
    main()
