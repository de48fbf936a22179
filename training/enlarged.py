"""Compare enlargements of scaled-down real pictures with the originals.

    python -m training.enlarged --data DIR --output out/enlarged --preset default --preset fast

Pictures composed of complete sets of tiles are scaled down to the model's native size and enlarged (``--from-image``).
For each preset it prints the power of each octave relative to the real picture's (the natural logarithm of the ratio, 0
for equal power, coarsest first; the finest is the autoencoder's), and the agreement of the layout (PSNR at 16 and 64
pixels). The pictures are kept in the output folder, the originals in ``real``; existing ones are not made again.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelsmith import PRESETS, Parts, Request, Size, generate
from pixelsmith.evaluate.spectrum import octave_powers
from pixelsmith.evaluate.structure import layout_psnr
from training.data import SIZE
from training.truth import FACTORS, Place, Planet

OCTAVES = 5
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Real:
    """A real picture and the caption of its tile."""

    name: str
    caption: str
    style: str
    pixels: Pixels

    @property
    def small(self) -> Image.Image:
        return Image.fromarray(self.pixels).resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def real_pictures(planet: Planet, factor: int, count: int) -> Iterator[Real]:
    """``count`` pictures of each style, held-out ones first."""
    left = dict.fromkeys(sorted({style for style, *_ in planet.tiles}), count)
    for place in planet.drawn(list(planet.tiles), len(planet.tiles)):
        if left[place[0]] and (pixels := planet.mosaic(place, factor)) is not None:
            left[place[0]] -= 1
            yield Real(_name(place), planet.tiles[place]["caption"], place[0], pixels)


def _name(place: Place) -> str:
    return "_".join(str(part) for part in place)


def enlarged(real: Real, factor: int, preset: str, folder: Path) -> Pixels:
    """The enlargement of the scaled-down picture, kept in the folder. The fast preset uses the few-step LoRA."""
    folder.mkdir(parents=True, exist_ok=True)
    file, start = folder / f"{real.name}.png", folder.parent / f"{real.name}-small.png"
    if not file.exists():
        real.small.save(start)
        size = Size(factor * SIZE, factor * SIZE)
        parts = Parts(few_steps=None if preset == "fast" else False)
        generate(Request(real.caption, size, method=PRESETS[preset], from_image=str(start), parts=parts), file)
    return np.asarray(Image.open(file).convert("RGB"))


def figures(made: Sequence[Pixels], real: Sequence[Pixels]) -> tuple[NDArray[np.float64], float, float]:
    """The mean log ratio of powers by octave, and PSNR at 16 and at 64 pixels."""
    ratios = [
        np.log(octave_powers(ours, OCTAVES)) - np.log(octave_powers(truth, OCTAVES))
        for ours, truth in zip(made, real, strict=True)
    ]
    layouts = [
        float(np.mean([layout_psnr(ours, truth, side) for ours, truth in zip(made, real, strict=True)]))
        for side in (16, 64)
    ]
    return np.mean(ratios, axis=0), layouts[0], layouts[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", action="append", choices=list(PRESETS), default=[])
    parser.add_argument("--count", type=int, default=8, help="pictures of each style")
    parser.add_argument("--factor", type=int, choices=FACTORS, default=4)
    args = parser.parse_args()
    with (args.data / "captions.csv").open(newline="") as file:
        planet = Planet(list(csv.DictReader(file)), args.data)
    pictures = list(real_pictures(planet, args.factor, args.count))
    (args.output / "real").mkdir(parents=True, exist_ok=True)
    for real in pictures:
        Image.fromarray(real.pixels).save(args.output / "real" / f"{real.name}.png")
    for preset in args.preset or ["default"]:
        made = [enlarged(real, args.factor, preset, args.output / preset) for real in pictures]
        for style in ("all", *sorted({real.style for real in pictures})):
            chosen = [i for i, real in enumerate(pictures) if style in ("all", real.style)]
            powers, far, near = figures([made[i] for i in chosen], [pictures[i].pixels for i in chosen])
            octaves = " ".join(f"{power:+.2f}" for power in powers)
            print(f"{preset:10s} {style:10s} {len(chosen):3d} pictures: octaves {octaves}, {far:.1f} {near:.1f} dB")


if __name__ == "__main__":
    main()
