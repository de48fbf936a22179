"""Variety: no copies of training pictures, and different pictures for different seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.evaluate.features import scaled
from pixelsmith.system.digests import sha256_of
from training.data import load_pixels, load_records
from training.figures import Figure
from training.judge import judged
from training.study import Study, save_arrays

THUMBNAIL = 16
NEAR = 0.05
"""The share of held-out pictures that count as near to a training picture."""
MOST_NEAR, LEAST_RATIO = 2 * NEAR, 0.8
Rows = NDArray[np.float32]


def variety(study: Study) -> list[Figure]:
    trained = _described(study, [i for i, record in enumerate(load_records(study.work)) if not record.held_out])
    real, ours = (_rows(study, pixels) for pixels in (study.real, study.base.pixels))
    figures = []
    for name in trained:
        usual, found = (nearest(rows[name], trained[name]) for rows in (real, ours))
        share = float((found < np.quantile(usual, NEAR)).mean())
        figures += [
            Figure(
                f"median distance to the nearest training picture, against held-out ones', {name}",
                float(np.median(found) / np.median(usual)),
                least=LEAST_RATIO,
            ),
            Figure(f"share as near to one as the nearest {NEAR:.0%} of held-out ones, {name}", share, most=MOST_NEAR),
        ]
    theirs = spread(real["thumbnails"], [record.caption for _, record in study.held_out])
    apart = spread(ours["thumbnails"], study.captions) / theirs
    return [*figures, Figure("distance between seeds, against real pictures of one caption", apart, least=LEAST_RATIO)]


def nearest(rows: Rows, others: Rows) -> NDArray[np.float64]:
    """The distance from each row (n, d) to the nearest of ``others`` (m, d)."""
    squares = np.square(others).sum(1)
    found = [np.square(row).sum() + (squares - 2 * others @ row).min() for row in rows]
    return np.sqrt(np.maximum(found, 0))


def spread(rows: Rows, captions: Sequence[str]) -> float:
    """The mean distance of two rows of one caption, over captions; NaN if no caption has two."""
    groups = defaultdict(list)
    for row, caption in zip(rows, captions, strict=True):
        groups[caption].append(row)
    means = [
        fmean(float(np.linalg.norm(a - b)) for a, b in combinations(group, 2))
        for group in groups.values()
        if len(group) > 1
    ]
    return fmean(means) if means else float("nan")


def _described(study: Study, indices: list[int]) -> dict[str, Rows]:
    """The rows of the training pictures, computed once for all models."""
    file = study.output / f"training-pictures-{sha256_of(study.judge_folder)[:8]}.npz"
    if not file.exists():
        pixels = load_pixels(study.work)
        parts = [_rows(study, pixels[chosen]) for chosen in np.array_split(indices, 1 + len(indices) // 256)]
        save_arrays(file, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    with np.load(file) as kept:
        return dict(kept)


def _rows(study: Study, pixels: NDArray[np.uint8]) -> dict[str, Rows]:
    """The rows that pictures are compared by: the judge's features, and thumbnails."""
    thumbnails = torch.cat(
        [scaled(part, THUMBNAIL).flatten(1) for part in np.array_split(pixels, 1 + len(pixels) // 64)]
    )
    return {
        "features": judged(study.judge, pixels).features.astype(np.float32),
        "thumbnails": thumbnails.numpy(),
    }
