"""How long one part of a huge picture takes to be made again, what changes outside it, and whether its border shows.

    python -m benchmarks.redo [--side 16384] [--region 512] [--work FOLDER]

A picture of 1024² by the embedded model (fast) is repeated and mirrored to a picture of that side, with real detail at
full size, and written as a finished run would write it, with the settings of such a picture. Then ``pixelsmith redo``
makes one part again: once into a pyramid of the same kind, once into a PNG, which keeps the pixels outside.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
import torch
from torch import Tensor

from pixelsmith import PRESETS, Parts, Request, Size, generate
from pixelsmith.api.functions import settings_of
from pixelsmith.canvas import Array
from pixelsmith.evaluate.seams import Borders, seam_excess, seam_index
from pixelsmith.geometry import Window
from pixelsmith.pixels.files import write_picture

TILE = 1024
SCALE = 8
"""Pixels of a latent."""
AROUND = 128
"""Pixels around the part in which its border is compared."""


def request_of(side: int) -> Request:
    """A picture of the embedded model, fast."""
    return Request(
        "watercolor map of islands in a turquoise sea",
        Size(side, side),
        seed=1,
        method=PRESETS["fast"],
        parts=Parts(few_steps=None),
    )


@dataclass(frozen=True)
class Mirrored:
    """A picture (3, h, w) uint8, repeated and mirrored to ``size``."""

    tile: Tensor
    size: Size

    def read(self, window: Window) -> Tensor:
        height, width = self.tile.shape[1:]
        rows, columns = (
            torch.from_numpy(np.where(index // side % 2, side - 1 - index % side, index % side))
            for index, side in (
                (np.arange(window.top, window.bottom), height),
                (np.arange(window.left, window.right), width),
            )
        )
        return self.tile[:, rows][:, :, columns]


def outside(before: pyvips.Image, after: pyvips.Image, part: Window) -> str:
    """How far the pixels outside a part differ."""
    difference = (before.cast("short") - after.cast("short")).abs()
    black = pyvips.Image.black(part.width, part.height, bands=3).cast("short")
    difference = difference.insert(black, part.left, part.top)
    pixels = before.width * before.height
    return f"mean difference {difference.avg():.4f} of 255, largest {difference.max():.0f}, in {pixels:,} pixels"


def step(picture: Array, first: int, last: int) -> float:
    """The mean difference of neighbouring pixels across the sides of a square from ``first`` to ``last``."""
    pixels = picture.read(picture.size.window).float()
    across = [(pixels[:, first:last, side] - pixels[:, first:last, side - 1]).abs() for side in (first, last)]
    down = [(pixels[:, side, first:last] - pixels[:, side - 1, first:last]).abs() for side in (first, last)]
    return float(torch.stack([*across, *down]).mean())


def border(before: pyvips.Image, after: pyvips.Image, part: Window) -> str:
    """Seam index, seam excess and gradient at the edge of a part, and in the middle of the feathered band."""
    old, new = (
        Array(torch.from_numpy(crop.numpy().copy()).permute(2, 0, 1))
        for crop in (
            image.crop(part.left - AROUND, part.top - AROUND, part.width + 2 * AROUND, part.height + 2 * AROUND)
            for image in (before, after)
        )
    )
    side, found = new.size.width // SCALE, []
    for name, inset in (("edge", 0), ("middle of the band", 24)):
        first, last = (AROUND + inset) // SCALE, (AROUND + part.width - inset) // SCALE
        across = np.zeros((side, side - 1), bool)
        across[first:last, [first - 1, last - 1]] = True
        borders = Borders(across, across.T.copy(), SCALE)
        steps = [step(crop, AROUND + inset, AROUND + part.width - inset) for crop in (new, old)]
        found.append(
            f"{name}: index {seam_index(new, borders):.3f}, excess {seam_excess(new, old, borders):.3f}, "
            f"gradient {steps[0] / steps[1]:.3f} times the old one's"
        )
    return "; ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--region", type=int, default=512)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        path = Path(folder) / "picture.tif"
        tile = torch.from_numpy(generate(request_of(TILE)).pixels).permute(2, 0, 1)
        size = Size(options.side, options.side)
        write_picture(Mirrored(tile, size), path, settings_of(request_of(options.side)))
        print(f"{path.name}: {size}, {path.stat().st_size / 1e6:.0f} MB", flush=True)
        # Within one copy of the tile: at its edges the picture is mirrored.
        corner = options.side // 2 // TILE * TILE + (TILE - options.region) // 2 // SCALE * SCALE
        part = Window(corner, corner, options.region, options.region)
        region = f"{part.left},{part.top},{part.width},{part.height}"
        for suffix in ("tif", "png"):
            after = path.with_name(f"after.{suffix}")
            command = [sys.executable, "-m", "pixelsmith", "redo", str(path), "--region", region, "--seed", "2"]
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([*command, "--output", str(after), "--quiet"], check=True)
            seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            own = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
            peak = used.ru_maxrss / 1024
            print(f"redo into .{suffix}: {own:.0f} s of processor time, {seconds:.0f} s, peak {peak:.0f} MB")
            old, new = (pyvips.Image.new_from_file(str(file)) for file in (path, after))
            print(f"outside: {outside(old, new, part)}")
            print(f"border: {border(old, new, part)}", flush=True)


if __name__ == "__main__":
    main()
