"""Real pictures for ``pixelsmith evaluate --truth``, whole and as full-size crops, for the protocols' prompts.

    python -m training.truth --data DIR --output truth

``whole.npy``: tiles of any zoom whose caption is a prompt. ``patches-2x.npy``, ``-4x``, ``-8x``: tiles within a tile of
that caption, one to three zoom levels finer, which are full-size crops of a real picture of two to eight times the
sides, even if its other tiles are missing. There are equally many for each prompt; held-out tiles are preferred, but
most are not held out.

    python -m training.truth --data DIR --output mosaics --mosaics 4

writes some such pictures in full for inspection, and prints the PSNR of each, scaled down, and its own tile.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelsmith.evaluate.protocol import load_protocol
from pixelsmith.evaluate.truth import MOST
from training.data import SIZE, crops, is_held_out

FACTORS = (2, 4, 8)
MOST_MOSAICS = 4
"""The number of mosaics of each style that are written."""
Row = Mapping[str, str]
Place = tuple[str, int, int, int]
"""Style, zoom, column and row of a tile."""


class Planet:
    """The tiles of all zooms and styles, by location. ``rows``: those of ``captions.csv`` in the folder ``data``."""

    def __init__(self, rows: Sequence[Row], data: Path) -> None:
        self._data = data
        self.tiles = {place_of(row): row for row in rows if row["zoom"]}

    def captioned(self, caption: str) -> list[Place]:
        return [place for place, row in self.tiles.items() if row["caption"] == caption]

    def inside(self, place: Place, factor: int) -> Iterator[Place]:
        """The locations within a tile at ``factor`` times its resolution, row by row."""
        style, zoom, column, row = place
        for y in range(factor * row, factor * (row + 1)):
            for x in range(factor * column, factor * (column + 1)):
                yield style, zoom + int(math.log2(factor)), x, y

    def details(self, caption: str, factor: int) -> list[Place]:
        """The existing tiles within those of this caption."""
        places = (inner for place in self.captioned(caption) for inner in self.inside(place, factor))
        return [place for place in places if place in self.tiles]

    def mosaic(self, place: Place, factor: int) -> NDArray[np.uint8] | None:
        """The real picture of ``factor`` times the sides, or ``None`` if a tile is missing."""
        places = list(self.inside(place, factor))
        if not all(place in self.tiles for place in places):
            return None
        tiles = self.pixels(places).reshape(factor, factor, SIZE, SIZE, 3)
        return tiles.swapaxes(1, 2).reshape(factor * SIZE, factor * SIZE, 3)

    def pixels(self, places: Sequence[Place]) -> NDArray[np.uint8]:
        """The tiles (n, 256, 256, 3), preprocessed as for the training."""
        rows = [self.tiles[place] for place in places]
        files = (io.BytesIO(self._archives[row["archive"]].read(row["file"])) for row in rows)
        return np.stack([crops(Image.open(file), row["style"])[0] for file, row in zip(files, rows, strict=True)])

    def drawn(self, places: Sequence[Place], count: int) -> list[Place]:
        """``count`` of them at random, held-out ones first."""
        order = [places[i] for i in np.random.default_rng(0).permutation(len(places))]
        return sorted(order, key=lambda place: not self.held_out(place))[:count]

    def held_out(self, place: Place) -> bool:
        return is_held_out(place[0], self.tiles[place]["file"])

    @cached_property
    def _archives(self) -> dict[str, zipfile.ZipFile]:
        return {name: zipfile.ZipFile(self._data / name) for name in {row["archive"] for row in self.tiles.values()}}


def place_of(row: Row) -> Place:
    """The location of a tile, from the name of its file: zoom, column and row."""
    zoom, column, line = (int(part) for part in Path(row["file"]).stem.split("_"))
    return row["style"], zoom, column, line


def sets(planet: Planet, prompts: Sequence[str]) -> Iterator[tuple[str, list[Place]]]:
    """Each set of the truth by name, with equally many tiles for each prompt: none if a prompt has none."""
    named = {"whole": [planet.captioned(prompt) for prompt in prompts]}
    named |= {f"patches-{factor}x": [planet.details(prompt, factor) for prompt in prompts] for factor in FACTORS}
    for name, groups in named.items():
        count = min(MOST // len(prompts), *(len(group) for group in groups))
        yield name, [place for group in groups for place in planet.drawn(group, count)]


def write_sets(planet: Planet, prompts: Sequence[str], output: Path) -> None:
    """Write ``whole.npy`` and the patches of each factor that every prompt has tiles of."""
    for name, places in sets(planet, prompts):
        if not places:
            print(f"{name}: left out, because a prompt has no tiles so much finer")
            continue
        np.save(output / f"{name}.npy", planet.pixels(places))
        held_out = sum(planet.held_out(place) for place in places)
        print(f"{name}: {len(places)} tiles ({held_out} held out), {dict(Counter(place[0] for place in places))}")


def write_mosaics(planet: Planet, factor: int, output: Path) -> None:
    """Write some real pictures of each style in full, and print the PSNR in dB of each and its tile."""
    left = dict.fromkeys(sorted({style for style, *_ in planet.tiles}), MOST_MOSAICS)
    for place in planet.drawn(list(planet.tiles), len(planet.tiles)):
        if not left[place[0]] or (pixels := planet.mosaic(place, factor)) is None:
            continue
        left[place[0]] -= 1
        path = output / f"{'_'.join(str(part) for part in place)}.png"
        picture = Image.fromarray(pixels)
        picture.save(path)
        small = np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS), np.float64)
        decibel = 10 * np.log10(255**2 / np.square(small - planet.pixels([place])[0]).mean())
        print(f"{path}: {planet.tiles[place]['caption']}, {decibel:.1f} dB from its own tile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--mosaics", type=int, choices=FACTORS)
    parser.add_argument("--prompts", type=int, help="only the first ones, as for pixelsmith evaluate --prompts")
    args = parser.parse_args()
    with (args.data / "captions.csv").open(newline="") as file:
        planet = Planet(list(csv.DictReader(file)), args.data)
    args.output.mkdir(parents=True, exist_ok=True)
    if args.mosaics:
        write_mosaics(planet, args.mosaics, args.output)
    else:
        write_sets(planet, load_protocol("table1").part(args.prompts).prompts["embedded"], args.output)


if __name__ == "__main__":
    main()
