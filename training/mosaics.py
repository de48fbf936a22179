"""Data augmentation: crops of four neighbouring tiles at any offset and scale, encoded once.

    python -m training.mosaics --data DIR --work training/work --init src/pixelsmith/embedded/model

Tiles have fixed borders and five zoom levels. A crop of 256 to 512 pixels of a mosaic of 2x2 tiles, scaled to 256, has
any position and a zoom between two levels. ``work/mosaics.npy`` (M, c, 32, 32) and ``work/mosaics.csv`` are used in
addition to ``latents.npy`` and ``records.csv``. Mosaics with a held-out tile are left out.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.autoencoder import load_autoencoder
from training.data import PHOTO_CROPS, SIZE, is_held_out, load_pixels
from training.latents import encode_pictures
from training.loop import be_modest, flush_denormals
from training.truth import Place, Row, place_of

TRIES = 8
"""The number of candidate crops of each mosaic."""
LEAST_COVER = 0.7
"""The least share of a crop that tiles with the same caption must cover, so that the crop has this caption."""
SYMMETRIES = {"satellite": (0, 4), "watercolor": tuple(range(8)), "night": tuple(range(8))}
"""The flips and rotations that are used for each style. Relief must be lit from the upper left."""


@dataclass(frozen=True)
class Tile:
    """The index of a tile among the pictures, and its caption."""

    index: int
    caption: str
    held_out: bool


@dataclass(frozen=True)
class Crop:
    """A square of ``side`` pixels of the mosaic of four tiles, row by row; ``symmetry``: as in ``turned``."""

    tiles: tuple[Tile, Tile, Tile, Tile]
    left: float
    top: float
    side: float
    symmetry: int

    def caption(self) -> str | None:
        """The caption of the tiles that cover most of it, or ``None`` if no caption does."""
        above, beside = (min(1.0, (SIZE - min(start, SIZE)) / self.side) for start in (self.top, self.left))
        cover, by_caption = np.outer([above, 1 - above], [beside, 1 - beside]).ravel(), defaultdict[str, float](float)
        for tile, share in zip(self.tiles, cover, strict=True):
            by_caption[tile.caption] += share
        best = max(by_caption, key=by_caption.__getitem__)
        return best if by_caption[best] >= LEAST_COVER else None

    def pixels(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop (256, 256, 3), from the pictures (N, 256, 256, 3)."""
        a, b, c, d = (pictures[tile.index] for tile in self.tiles)
        mosaic = Image.fromarray(np.concatenate([np.concatenate([a, b], axis=1), np.concatenate([c, d], axis=1)]))
        box = (self.left, self.top, self.left + self.side, self.top + self.side)
        return turned(np.asarray(mosaic.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box)), self.symmetry)


def turned(pixels: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """One of the eight flips and rotations of a square (s, s, 3): 0 is unchanged, 4 mirrored at the main diagonal."""
    flipped = pixels.swapaxes(0, 1) if symmetry >= 4 else pixels
    return np.rot90(flipped, symmetry % 4)


def tiles_of(rows: Sequence[Row]) -> dict[Place, Tile]:
    """All tiles by location, from the rows of ``captions.csv``, in whose order the pictures were unpacked."""
    tiles, index = {}, 0
    for row in rows:
        if row["style"] != "landscape":
            tiles[place_of(row)] = Tile(index, row["caption"], is_held_out(row["style"], row["file"]))
        index += PHOTO_CROPS if row["style"] == "landscape" else 1
    return tiles


def crops_of(tiles: Mapping[Place, Tile]) -> Iterator[tuple[Crop, str, str]]:
    """Crops with their caption and style, which depend on the location alone."""
    for style, zoom, column, row in sorted(tiles):
        places = [(style, zoom, column + x, row + y) for y in (0, 1) for x in (0, 1)]
        if not all(place in tiles and not tiles[place].held_out for place in places):
            continue
        a, b, c, d = (tiles[place] for place in places)
        rng = np.random.default_rng((7, zlib.crc32(style.encode()), zoom, column, row))
        for _ in range(TRIES):
            side = SIZE * 2 ** rng.random()
            left, top = rng.uniform(0, 2 * SIZE - side, 2)
            crop = Crop((a, b, c, d), left, top, side, int(rng.choice(SYMMETRIES[style])))
            if caption := crop.caption():
                yield crop, caption, style


def write_mosaics(data: Path, work: Path, model: Path) -> None:
    with (data / "captions.csv").open(newline="") as file:
        tiles = tiles_of(list(csv.DictReader(file)))
    found, pictures = list(crops_of(tiles)), load_pixels(work)
    with (work / "mosaics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["caption", "style", "held_out"])
        writer.writerows([caption, style, 0] for _, caption, style in found)
    encode_pictures(
        load_autoencoder(model),
        len(found),
        lambda chosen: np.stack([crop.pixels(pictures) for crop, _, _ in found[chosen]]),
        work / "mosaics.npy",
    )
    print(f"{len(found)} crops")


def main() -> None:
    flush_denormals()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("training/work"))
    parser.add_argument("--init", type=Path, required=True, help="the model whose autoencoder made the latents")
    parser.add_argument("--threads", type=int, help="number of cores; all by default")
    parser.add_argument("--nice", type=int, default=0, help="niceness from 0 to 19, which only uses idle time")
    args = parser.parse_args()
    be_modest(args.threads, args.nice)
    write_mosaics(args.data, args.work, args.init)


if __name__ == "__main__":
    main()
