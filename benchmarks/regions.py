"""Measure two regions with two subjects: the judge's result for each half of a picture, and the seam between them.

Each prompt is also judged alone, in a picture of the model's native size, as an upper bound. If the border is a shore
between the two subjects, its seam index is above 1 without a seam.

python -m benchmarks.regions --seeds 3
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith import PRESETS, Region, Request, Size, load
from pixelsmith.canvas import Array
from pixelsmith.evaluate.features import Features, load_features
from pixelsmith.evaluate.judge import SUBJECTS
from pixelsmith.evaluate.seams import Borders, seam_index

SIZE = Size(512, 256)
PAIRS = (
    ("watercolor map of islands in a turquoise sea", "satellite photo of sandy desert plains", "islands", "desert"),
    ("satellite photo of brown rugged mountains", "watercolor map of land with roads", "mountains", "roads"),
    ("night photo from space of many city lights", "satellite photo of dark blue deep ocean floor", "lights", "ocean"),
    ("satellite photo of a forest", "satellite photo of an ice sheet", "forest", "ice"),
)
"""The prompts of the left and the right half, and their subjects; the last two are not captions of the training."""


def main() -> None:
    """Print for each picture the subjects of its halves, those of each prompt alone, and the border's seam index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    judge, names, counts = load_features("judge"), list(SUBJECTS), np.zeros(2, int)
    with load() as model:
        scale, native = model.facts.latent_scale, model.facts.native_size
        across = np.zeros((SIZE.height // scale, SIZE.width // scale - 1), bool)
        across[:, SIZE.width // scale // 2 - 1] = True
        borders = Borders(across, np.zeros((SIZE.height // scale - 1, SIZE.width // scale), bool), scale)
        for left, right, *subjects in PAIRS:
            region = Region(right, box=(50, 0, 50, 100), unit="percent")
            for seed in range(seeds):
                request = Request(left, SIZE, seed=seed, method=PRESETS["fast"], regions=(region,))
                pixels = model.generate(request).pixels
                halves = np.stack([pixels[:, : SIZE.width // 2], pixels[:, SIZE.width // 2 :]])
                wholes = np.stack(
                    [
                        model.generate(replace(request, prompt=prompt, size=native, regions=())).pixels
                        for prompt in (left, right)
                    ]
                )
                said = [[names[row.argmax()] for row in subjects_of(judge, some)] for some in (halves, wholes)]
                counts += [sum(own == name for own, name in zip(some, subjects, strict=True)) for some in said]
                index = seam_index(Array(torch.from_numpy(pixels).permute(2, 0, 1)), borders)
                shown, alone = (" | ".join(some) for some in said)
                print(f"seed {seed}: {shown}, alone {alone}; seam index {index:.2f}", flush=True)
    halves_right, alone_right = counts
    print(f"of {2 * len(PAIRS) * seeds} prompts {halves_right} show their subject in a region, {alone_right} alone")


def subjects_of(judge: Features, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The probabilities of subjects (n, 14). Raises ``TypeError`` for a network without classes."""
    found = judge(pictures).probabilities
    if found is None:
        raise TypeError("expected a judge of subjects")
    return found


if __name__ == "__main__":
    main()
