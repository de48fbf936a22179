"""All metrics by name: what each keeps of a picture, and what a set of pictures comes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.errors import RequestError
from pixelsmith.evaluate.clip import ClipScore
from pixelsmith.evaluate.distances import frechet_distance, inception_score, kernel_distance
from pixelsmith.evaluate.duplication import duplication_index
from pixelsmith.evaluate.features import JUDGE, Features, load_features
from pixelsmith.evaluate.seams import seam_index
from pixelsmith.evaluate.shots import CROPS, Shot
from pixelsmith.evaluate.spectrum import radial_spectrum, spectrum_distance
from pixelsmith.evaluate.structure import colour_drift, ssim
from pixelsmith.evaluate.truth import Truth, batches
from pixelsmith.evaluate.wasserstein import laplacian_pyramid, neighbourhoods, sliced_wasserstein, slices

Kept = NDArray[Any]
LEVELS = 4
"""Levels of the pyramid of the sliced Wasserstein distance; 0 is the finest."""
_ROWS_A_FEATURE = 10
"""Pictures for each feature, below which a Fréchet distance of whole pictures is not taken."""
_NEIGHBOURHOODS = 8
"""For each crop: 128 for a picture of 16 crops, as in the source."""


@dataclass(frozen=True)
class Metric:
    """A number for a set of pictures.

    ``describe`` keeps of a picture what the number needs, in rows; ``value`` makes the number of what was kept of each
    picture of a set: so a set can be taken again without some of it (jackknife) and no picture is looked at twice.
    ``least``: the pictures that it needs to mean something.
    """

    better: Literal["lower", "higher"]
    describe: Callable[[Shot], Kept]
    value: Callable[[Sequence[Kept]], float]
    least: int = 1


class UnavailableError(Exception):
    """A metric cannot be computed with what was given; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class Tools:
    """What metrics are computed with: the name of a feature network, real pictures, the name of a CLIP model."""

    features: str = JUDGE
    truth: Truth | None = None
    clip: str | None = None

    @cached_property
    def network(self) -> Features:
        return load_features(self.features)

    @cached_property
    def real(self) -> Truth:
        if self.truth is None:
            raise UnavailableError("it needs real pictures (--truth)")
        return self.truth

    @cached_property
    def side(self) -> int:
        """Pixels a side of the crops that the network sees: as many as it looks at, so that it does not shrink them."""
        return min(self.network.side, self.real.side)

    @cached_property
    def real_features(self) -> Kept:
        """Features (n, d) of the real pictures as wholes."""
        return np.concatenate([self.network(some).features for some in batches(self.real.whole)])

    @cached_property
    def real_details(self) -> Kept:
        """Features (n, d) of the real pictures at full size."""
        return np.concatenate([self.network(some).features for some in batches(self.real.patches, self.side)])

    @cached_property
    def clip_score(self) -> ClipScore:
        if self.clip is None:
            raise UnavailableError(
                "it needs a CLIP model (--clip: a folder, or a hub id such as openai/clip-vit-base-patch16)"
            )
        return ClipScore(self.clip)


def load_metric(name: str, tools: Tools) -> Metric:
    """The metric of this name. Raises ``UnavailableError`` where something it needs was not given, ``RequestError``."""
    if name not in METRICS:
        raise RequestError(f"metrics: there is no {name!r}; expected one of {', '.join(METRICS)}")
    return METRICS[name](tools)


def _mean_of(measure: Callable[[Shot], float], better: Literal["lower", "higher"]) -> Metric:
    """A number for each picture, and their mean."""
    return Metric(better, lambda shot: np.array([measure(shot)]), lambda kept: float(np.mean(np.concatenate(kept))))


def _by_picture(measure: Callable[[Shot], float], better: Literal["lower", "higher"]) -> Callable[[Tools], Metric]:
    return lambda tools: _mean_of(measure, better)


def _clip(tools: Tools) -> Metric:
    score = tools.clip_score
    return _mean_of(lambda shot: score(shot.small, shot.prompt), "higher")


def _frechet(tools: Tools) -> Metric:
    real = tools.real_features
    # With fewer the covariance of so many features is mostly noise.
    least = _ROWS_A_FEATURE * real.shape[1]
    return Metric("lower", partial(_features, tools), lambda kept: frechet_distance(np.concatenate(kept), real), least)


def _kernel(tools: Tools) -> Metric:
    real = tools.real_features
    return Metric("lower", partial(_features, tools), lambda kept: kernel_distance(np.concatenate(kept), real), 2)


def _patch_frechet(tools: Tools) -> Metric:
    real = tools.real_details
    return Metric("lower", partial(_details, tools), lambda kept: frechet_distance(np.concatenate(kept), real))


def _patch_kernel(tools: Tools) -> Metric:
    real = tools.real_details

    def value(kept: Sequence[Kept]) -> float:
        return kernel_distance(np.concatenate(kept), real, together=CROPS)

    return Metric("lower", partial(_details, tools), value, 2)


def _features(tools: Tools, shot: Shot) -> Kept:
    """Of a whole picture (1, d)."""
    return tools.network(shot.small[None]).features


def _details(tools: Tools, shot: Shot) -> Kept:
    """Of a picture's crops (CROPS, d)."""
    return tools.network(shot.crops(tools.side)).features


def _classes(tools: Tools) -> Metric:
    if tools.network(np.zeros((1, 64, 64, 3), np.uint8)).probabilities is None:
        raise UnavailableError(f"it needs a network with classes, which {tools.network.name} does not have")

    def describe(shot: Shot) -> Kept:
        return np.asarray(tools.network(shot.small[None]).probabilities)

    return Metric("higher", describe, lambda kept: inception_score(np.concatenate(kept)))


def _wasserstein(level: int, tools: Tools) -> Metric:
    def describe(pixels: NDArray[np.uint8], seed: int) -> Kept:
        bands = laplacian_pyramid(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), level + 2)
        return neighbourhoods(bands[level], _NEIGHBOURHOODS, seed)

    # All of them at once would be large: the pyramid of a real picture does not depend on the others.
    photos = tools.real.patches
    real = slices(np.concatenate([describe(photos[i][None], i) for i in range(len(photos))]))
    return Metric(
        "lower",
        lambda shot: describe(shot.crops(shot.spacing), shot.seed),
        lambda kept: sliced_wasserstein(slices(np.concatenate(kept)), real),
    )


def _spectrum(tools: Tools) -> Metric:
    photos = tools.real.patches
    found = [(len(some), radial_spectrum(some)) for some in batches(photos)]
    real = np.average([power for _, power in found], axis=0, weights=[count for count, _ in found])
    return Metric(
        "lower",
        lambda shot: radial_spectrum(shot.crops(shot.spacing))[None],
        lambda kept: spectrum_distance(np.concatenate(kept).mean(0), real),
    )


METRICS: dict[str, Callable[[Tools], Metric]] = {
    "frechet": _frechet,
    "kernel": _kernel,
    "patch_frechet": _patch_frechet,
    "patch_kernel": _patch_kernel,
    "inception_score": _classes,
    "clip_score": _clip,
    **{f"wasserstein_{level}": partial(_wasserstein, level) for level in range(LEVELS)},
    "spectrum": _spectrum,
    "structure": _by_picture(lambda shot: ssim(shot.small, shot.base), "higher"),
    "seam_index": _by_picture(lambda shot: seam_index(shot.picture, shot.borders), "lower"),
    "duplication_index": _by_picture(
        lambda shot: duplication_index(shot.picture, shot.enlarged, shot.spacing, shot.stride), "lower"
    ),
    "colour_mean": _by_picture(lambda shot: colour_drift(shot.small, shot.base)[0], "lower"),
    "colour_spread": _by_picture(lambda shot: colour_drift(shot.small, shot.base)[1], "lower"),
}
"""Distances of whole pictures (``frechet``: the FID, with Inception's features; ``kernel``: the KID) shrink them to the
model's own size and cannot see detail; those of patches look at crops that the network need not shrink. What each is:
in the module of its function."""
