"""Measure how fast a huge picture is written, and how fast the viewer shows it.

    python -m benchmarks.pyramid [--side 16384] [--format tif] [--file FILE] [--work FOLDER]

A picture of that size is stored in tiles on disk, as in a finished run, and written. Then a browser's requests are
made: the page, its first view, and random tiles of all levels, each for the first time. With ``--file`` only the viewer
is measured, with that file or run directory.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import torch

from pixelsmith.canvas import DiskSpace
from pixelsmith.config.request import EMBEDDED
from pixelsmith.families import find_model, read_facts
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.files import write_picture
from pixelsmith.run.shown import TILE
from pixelsmith.viewer import PictureServer

BLOCKS = 16
"""The number of different tiles, so that they do not compress better than a picture."""


def block(window: Window, seed: int) -> torch.Tensor:
    """Shapes and grain as in decoded pictures: (3, h, w) in about 0..255."""
    rng = np.random.default_rng(seed)
    rough, grain = (
        torch.from_numpy(rng.normal(0, 1, (1, 3, window.height // step, window.width // step)).astype(np.float32))
        for step in (8, 1)
    )
    smooth = torch.nn.functional.interpolate(rough, (window.height, window.width), mode="bicubic")
    return (128 + 40 * smooth + 4 * grain)[0]


def written(side: int, path: Path, folder: Path) -> None:
    """Write a picture of soft noise, then print the rate and the growth of the peak of memory."""
    tiles = read_facts(find_model(EMBEDDED), EMBEDDED).tiling.tiles(Size(side // 8, side // 8)).scaled(8)
    picture = DiskSpace(folder).open("picture", tiles, 3, torch.uint8)
    blocks = [block(tiles[0].window, seed) for seed in range(BLOCKS)]
    for index in range(len(tiles)):
        picture.put(index, blocks[index % BLOCKS])
    picture.sync()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    write_picture(picture, path, {"prompt": "noise"})
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = f"peak {before / 1024:.0f} MB before, {after / 1024:.0f} MB after"
    print(f"written: {side * side / 1e6 / seconds:.1f} MP/s; {peaks}", flush=True)


def looked_at(path: Path, tiles: int) -> None:
    """Request the first view and random tiles from the viewer, and print the times."""
    began = time.perf_counter()
    with PictureServer(path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        size = list(server.shown().pictures.values())[-1].size
        number = len(server.shown().pictures) - 1
        levels = max(0, (max(size.width, size.height) - 1) // TILE).bit_length()
        first = ["", "viewer.js", "openseadragon.min.js", "shown.json"]
        # A window of 1600x1200 shows the level with up to 8 tiles a side.
        shown = max(0, levels - 3)
        side = TILE << shown
        columns, rows = -(-size.width // side), -(-size.height // side)
        first += [f"tile/{number}/{shown}/{x}/{y}" for x in range(columns) for y in range(rows)]
        for name in first:
            fetch(server.url + name)
        print(f"first view: {time.perf_counter() - began:.2f} s, {columns * rows} tiles")
        draw, times = random.Random(0), []
        for _ in range(tiles):
            level = draw.randrange(levels + 1)
            side = TILE << level
            x, y = draw.randrange(-(-size.width // side)), draw.randrange(-(-size.height // side))
            times.append(fetch(f"{server.url}tile/{number}/{level}/{x}/{y}?version=new"))
        server.shutdown()
    median, most = np.quantile(times, [0.5, 0.95])
    print(f"tiles: median {1e3 * median:.0f} ms, 95 % within {1e3 * most:.0f} ms ({tiles} of all levels)")


def fetch(url: str) -> float:
    began = time.perf_counter()
    with urlopen(url) as answer:  # noqa: S310 (our own server's address)
        answer.read()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--format", default="tif")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only-write", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_write:
        written(args.side, args.only_write / f"picture.{args.format}", args.only_write)
    elif args.file:
        looked_at(args.file, args.tiles)
    else:
        with tempfile.TemporaryDirectory(dir=args.work) as folder:
            command = [sys.executable, "-m", "benchmarks.pyramid", "--side", str(args.side), "--format", args.format]
            subprocess.run([*command, "--only-write", folder], check=True)
            looked_at(Path(folder) / f"picture.{args.format}", args.tiles)


if __name__ == "__main__":
    main()
