"""Measure whether a picture that wraps has a visible seam at its joint.

    python -m benchmarks.joint PICTURE...

Prints for each axis the mean absolute difference of neighbours across the joint relative to the mean of all others, and
to that at borders of latents (every 8 pixels, where differences are larger and where the joint lies), and the largest
of the others relative to their mean.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LATENT = 8


def steps(pixels: NDArray[np.uint8], axis: int) -> NDArray[np.float64]:
    """Mean absolute differences of neighbouring rows (0) or columns (1) of (h, w, 3); the last is across the joint."""
    differences = np.abs(np.diff(pixels.astype(int), axis=axis, append=pixels.take([0], axis).astype(int)))
    return np.asarray(differences.mean(axis=(1 - axis, 2)))


def joint(pixels: NDArray[np.uint8], axis: int) -> float:
    """The difference across the joint relative to the mean of all others of the axis."""
    found = steps(pixels, axis)
    return float(found[-1] / found[:-1].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    for path in parser.parse_args().pictures:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        for axis, name in enumerate(("rows", "columns")):
            found = steps(pixels, axis)
            others, borders = found[:-1], found[LATENT - 1 : -1 : LATENT]
            against = f"{joint(pixels, axis):.2f} of all others, {found[-1] / borders.mean():.2f} of borders of latents"
            print(f"{path} {name}: {against}; the largest other {others.max() / others.mean():.2f}")


if __name__ == "__main__":
    main()
