"""Realism: distances in the judge's features, and the power of each octave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pixelsmith.evaluate.distances import Rows, frechet_distance
from pixelsmith.evaluate.judge import STYLES
from training.data import load_pixels, load_records
from training.figures import Figure
from training.study import Study

SPLITS = 20
MOST_DISTANCE, MOST_POWER = 5.0, 0.1
OCTAVES = ("third finest", "second finest", "finest")
FEWEST = 20
"""The least number of pictures of a style for a comparison of halves."""


def realism(study: Study) -> list[Figure]:
    trained = same_captions(study)
    return [
        figure
        for name, chosen in _groups(study)
        for figure in (
            *_distance(study, name, chosen),
            *_power(study, name, chosen),
            *power_of_training_pictures(study, name, chosen, trained),
        )
    ]


def _groups(study: Study) -> Iterator[tuple[str, NDArray[np.int_]]]:
    """All pictures and each style: the indices of held-out pictures, and of generated ones of their captions."""
    pairs = study.held_out[: study.count]
    yield "all", np.arange(len(pairs))
    for style in STYLES:
        chosen = np.array([i for i, (_, record) in enumerate(pairs) if record.style == style], dtype=int)
        if len(chosen) >= FEWEST:
            yield style, chosen


def _distance(study: Study, name: str, chosen: NDArray[np.int_]) -> list[Figure]:
    ours, theirs = study.base_verdict.features[chosen], study.real_verdict.features[chosen]
    ratio, between = distance_ratio(ours, theirs)
    note = f"{len(chosen)} of each, in halves, mean of {SPLITS} splits"
    return [
        Figure(f"Fréchet distance between two halves of the real, {name}", between, note=note),
        Figure(f"Fréchet distance to the real, in times of that, {name}", ratio, most=MOST_DISTANCE, note=note),
    ]


def distance_ratio(ours: Rows, theirs: Rows) -> tuple[float, float]:
    """The distance between real and generated pictures of the same captions, relative to that between real ones.

    Features (n, d), with the same caption in each row. One half of the real pictures is compared with the other half,
    and with the pictures generated for the other half's captions: the same number of pictures of the same subjects.
    Also returns the distance between the halves.
    """
    rng, to_ours, to_theirs = np.random.default_rng(0), [], []
    for _ in range(SPLITS):
        one, other = np.array_split(rng.permutation(len(theirs)), 2)
        to_ours.append(frechet_distance(ours[one], theirs[other]))
        to_theirs.append(frechet_distance(theirs[one], theirs[other]))
    return fmean(to_ours) / fmean(to_theirs), fmean(to_theirs)


def _power(study: Study, name: str, chosen: NDArray[np.int_]) -> list[Figure]:
    ratios = octaves(study.base.pixels[chosen]) / octaves(study.real[chosen])
    return [
        Figure(f"power to the real, {place} octave, {name}", ratio, 1 - MOST_POWER, 1 + MOST_POWER)
        for place, ratio in zip(OCTAVES, ratios.tolist(), strict=True)
    ]


def same_captions(study: Study) -> dict[int, int]:
    """The index of a training picture with the same caption, by the index of each held-out picture that has one."""
    places = defaultdict(list)
    for i, record in enumerate(load_records(study.work)):
        if not record.held_out:
            places[record.caption].append(i)
    rng, pairs = np.random.default_rng(0), enumerate(record.caption for _, record in study.held_out)
    return {i: int(rng.choice(places[caption])) for i, caption in pairs if caption in places}


def power_of_training_pictures(
    study: Study, name: str, chosen: NDArray[np.int_], trained: Mapping[int, int]
) -> list[Figure]:
    """The power of an ideal model of the training pictures, because the held-out locations differ from them."""
    pixels = load_pixels(study.work)
    pairs = [(i, trained[i]) for i in chosen.tolist() if i in trained]
    if not pairs:
        return []
    ratios = octaves(np.stack([pixels[j] for _, j in pairs])) / octaves(study.real[[i for i, _ in pairs]])
    return [
        Figure(f"power of training pictures of the same captions to the real, {place} octave, {name}", ratio,
               note=f"{len(pairs)} pictures")
        for place, ratio in zip(OCTAVES, ratios.tolist(), strict=True)
    ]  # fmt: skip


def octaves(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean power of grey values of pictures (n, s, s, 3) in each of the upper three octaves (3,), lowest first."""
    grey, side = pixels.astype(np.float64).mean(-1), pixels.shape[1]
    power = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    bands = [(frequency >= 0.5 / 2 ** (i + 1)) & (frequency < 0.5 / 2**i) for i in (2, 1, 0)]
    return np.array([power[:, band].mean() for band in bands])
