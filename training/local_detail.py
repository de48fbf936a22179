"""Measure the local detail of real pictures, and the additional detail of larger versions of them.

    python -m training.local_detail --data DIR --count 200 --mosaics 20

First the quantiles of ``LocalDetail`` over real tiles, by which areas are flat or busy
(``pixelsmith.pixels.slider_map``). Then, for real pictures that exist at ``--factor`` times the sides: the local root
mean square, in latents, of the large picture's difference from its scaled-down and enlarged version (new), and that of
the small picture's finest band (fine), in eight classes from flat to busy areas. ``moderated`` is based on these.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith import Size
from pixelsmith.canvas import Array
from pixelsmith.pixels.resample import Resized
from pixelsmith.pixels.slider_map import LocalDetail
from pixelsmith.sampling.merging.hold import local_rms
from pixelsmith.sampling.merging.low_pass import low_pass
from training.autoencoder import as_input, load_autoencoder
from training.data import SIZE
from training.enlarged import real_pictures
from training.truth import FACTORS, Planet

MODEL = Path("src/pixelsmith/embedded/model")
SHARES = (0.25, 1 / 3, 0.5, 0.75)
CLASSES = 8
LATENT_SCALE = 8


def quantiles(planet: Planet, count: int) -> NDArray[np.float64]:
    """The quantiles of local detail in ``count`` tiles of each style, over all styles."""
    found = []
    for style in sorted({style for style, *_ in planet.tiles}):
        places = planet.drawn([place for place in planet.tiles if place[0] == style], count)
        for pixels in planet.pixels(places):
            detail = LocalDetail(Array(torch.from_numpy(pixels.copy()).permute(2, 0, 1)), LATENT_SCALE)
            found.append(detail.read(detail.size.window).flatten().numpy())
    return np.asarray(np.quantile(np.concatenate(found), SHARES))


@torch.inference_mode()
def new_and_fine(planet: Planet, factor: int, count: int) -> Iterable[tuple[str, Tensor, Tensor]]:
    """The style and the two local root mean squares (1, 1, h, w) of real pictures."""
    autoencoder = load_autoencoder(MODEL).eval()
    scale = float(autoencoder.config.scaling_factor)
    for real in real_pictures(planet, factor, count):
        small = Array(torch.from_numpy(np.asarray(real.small).copy()).permute(2, 0, 1))
        target = Size(factor * SIZE, factor * SIZE)
        large = Resized(small, small.size, target, "lanczos").read(target.window).permute(1, 2, 0).numpy()
        truth, guide = (scale * autoencoder.encode(as_input(x[None])).latent.float() for x in (real.pixels, large))
        limit = 0.5 / factor
        new, fine = (local_rms(x - low_pass(x, limit), factor) for x in (truth - guide, guide))
        yield real.style, new, fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="tiles of each style")
    parser.add_argument("--mosaics", type=int, default=10, help="large pictures of each style, if there are so many")
    parser.add_argument("--factor", type=int, choices=FACTORS, default=4)
    args = parser.parse_args()
    with (args.data / "captions.csv").open(newline="") as file:
        planet = Planet(list(csv.DictReader(file)), args.data)
    for share, value in zip(SHARES, quantiles(planet, args.count), strict=True):
        print(f"{share:.0%} of the area of real tiles has a local detail of less than {value:.1f} grey values")
    pairs = list(new_and_fine(planet, args.factor, args.mosaics))
    for style in ("all", *sorted({style for style, *_ in pairs})):
        chosen = [(new, fine) for of, new, fine in pairs if style in ("all", of)]
        new, fine = (np.concatenate([some.flatten().numpy() for some in group]) for group in zip(*chosen, strict=True))
        edges = np.quantile(fine, np.linspace(0, 1, CLASSES + 1))
        classes = [(fine >= low) & (fine <= high) for low, high in pairwise(edges)]
        for name, values in (("fine", fine), ("new", new)):
            print(f"{style:10s} {name:4s}", " ".join(f"{np.median(values[places]):.2f}" for places in classes))
        correlation = np.corrcoef(np.log(new + 1e-3), np.log(fine + 1e-3))[0, 1]
        print(f"{style:10s} correlation of the logarithms {correlation:.2f}")


if __name__ == "__main__":
    main()
