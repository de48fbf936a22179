"""All metrics by name: the values that each needs of a picture, and the number for a set of pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.errors import RequestError
from pixelsmith.evaluate.clip import ClipScore
from pixelsmith.evaluate.distances import frechet_distance, inception_score, kernel_distance
from pixelsmith.evaluate.duplication import duplication_index, patch_likeness
from pixelsmith.evaluate.features import OFFLINE, Described, Features
from pixelsmith.evaluate.seams import seam_excess, seam_index
from pixelsmith.evaluate.shots import CROPS, Shot
from pixelsmith.evaluate.spectrum import detail, radial_spectrum, spectrum_distance
from pixelsmith.evaluate.structure import colour_drift, invented, layout_psnr, ssim
from pixelsmith.evaluate.truth import Truth, batches
from pixelsmith.evaluate.unavailable import UnavailableError
from pixelsmith.evaluate.wasserstein import laplacian_pyramid, neighbourhoods, sliced_wasserstein, slices

Kept = NDArray[Any]
_T = TypeVar("_T")
Better = Literal["lower", "higher", "neither"]
LEVELS = 4
"""The number of pyramid levels of the sliced Wasserstein distance; level 0 is the finest."""
LAYOUT_SIDES = (16, 64, 256)
"""The shorter sides in pixels to which pictures are scaled down to compare them with their bases."""
_ROWS_A_FEATURE = 10
"""The least number of pictures per feature for a Fréchet distance of whole pictures."""
_NEIGHBOURHOODS = 8
"""Neighbourhoods per crop: 128 for a picture of 16 crops, as in the source."""


@dataclass(frozen=True)
class Metric:
    """A number for a set of pictures.

    ``describe`` extracts the values of a picture that the number needs, in rows; ``value`` computes the number from
    those of a set, so that it can be computed without some pictures (jackknife) and each picture is read once.
    ``better``: the better direction, which an amount of something does not have. ``least``: the least number of
    pictures for a meaningful value.
    """

    better: Better
    describe: Callable[[Shot], Kept]
    value: Callable[[Sequence[Kept]], float]
    least: int = 1


def _once(describe: Callable[[Shot], _T]) -> Callable[[Shot], _T]:
    """Cache the values of the last picture, which several metrics use one after another."""
    return lru_cache(maxsize=1)(describe)


@dataclass(frozen=True, eq=False)
class Tools:
    """The tools of metrics, as far as they were given: a feature network, real pictures, a CLIP model."""

    features: Features | None = None
    truth: Truth | None = None
    clip: ClipScore | None = None

    @property
    def network(self) -> Features:
        if self.features is None:
            raise UnavailableError(f"it needs a feature network (--features); {OFFLINE}")
        return self.features

    @property
    def real(self) -> Truth:
        if self.truth is None:
            raise UnavailableError("it needs real pictures (--truth)")
        return self.truth

    @cached_property
    def side(self) -> int:
        """The side of crops in pixels, which is that of the network's input, so that they are not scaled."""
        return min(self.network.side, self.real.side)

    @cached_property
    def real_features(self) -> Kept:
        """Features (n, d) of whole real pictures."""
        return np.concatenate([self.network(some).features for some in batches(self.real.whole)])

    @cached_property
    def real_details(self) -> Kept:
        """Features (n, d) of full-size crops of the real pictures."""
        return np.concatenate([self.network(some).features for some in batches(self.real.patches, self.side)])

    @cached_property
    def real_slices(self) -> list[Kept]:
        """The neighbourhoods of the real pictures at full size, level by level."""
        photos = self.real.patches
        # One by one, because the pyramids of all pictures would need too much memory.
        found = [_neighbourhoods(photos[i][None], i) for i in range(len(photos))]
        return [slices(np.concatenate(level)) for level in zip(*found, strict=True)]

    @cached_property
    def whole(self) -> Callable[[Shot], Described]:
        """The network's output for a whole picture."""
        return _once(lambda shot: self.network(shot.small[None]))

    @cached_property
    def details(self) -> Callable[[Shot], Kept]:
        """Features (CROPS, d) of a picture's crops."""
        return _once(lambda shot: self.network(shot.crops(self.side)).features)


def load_metric(name: str, tools: Tools) -> Metric:
    """The metric of a name. Raises ``UnavailableError`` if a tool is missing, ``RequestError`` for unknown names."""
    if name not in METRICS:
        raise RequestError(f"metrics: expected one of {', '.join(METRICS)}, got {name!r}")
    return METRICS[name](tools)


def _mean_of(measure: Callable[[Shot], float], better: Better) -> Metric:
    """The metric that is the mean of a number for each picture."""
    return Metric(better, lambda shot: np.array([measure(shot)]), lambda kept: float(np.mean(np.concatenate(kept))))


def _by_picture(measure: Callable[[Shot], float], better: Better) -> Callable[[Tools], Metric]:
    return lambda tools: _mean_of(measure, better)


def _clip(tools: Tools) -> Metric:
    score = tools.clip
    if score is None:
        raise UnavailableError(
            "it needs a CLIP model (--clip: a folder, or a hub id such as openai/clip-vit-base-patch16)"
        )
    return _mean_of(lambda shot: score(shot.small, shot.prompt), "higher")


def _frechet(tools: Tools) -> Metric:
    real = tools.real_features
    # With fewer pictures the covariance is mostly noise.
    least = _ROWS_A_FEATURE * real.shape[1]
    return Metric(
        "lower",
        lambda shot: tools.whole(shot).features,
        lambda kept: frechet_distance(np.concatenate(kept), real),
        least,
    )


def _kernel(tools: Tools) -> Metric:
    real = tools.real_features
    return Metric(
        "lower", lambda shot: tools.whole(shot).features, lambda kept: kernel_distance(np.concatenate(kept), real), 2
    )


def _patch_frechet(tools: Tools) -> Metric:
    real = tools.real_details
    return Metric("lower", tools.details, lambda kept: frechet_distance(np.concatenate(kept), real))


def _patch_kernel(tools: Tools) -> Metric:
    real = tools.real_details

    def value(kept: Sequence[Kept]) -> float:
        return kernel_distance(np.concatenate(kept), real, together=CROPS)

    return Metric("lower", tools.details, value, 2)


def _classes(tools: Tools) -> Metric:
    if tools.network(np.zeros((1, 64, 64, 3), np.uint8)).probabilities is None:
        raise UnavailableError(f"it needs a network with classes, which {tools.network.name} does not have")

    return Metric(
        "higher",
        lambda shot: np.asarray(tools.whole(shot).probabilities),
        lambda kept: inception_score(np.concatenate(kept)),
    )


def _wasserstein(level: int, tools: Tools) -> Metric:
    real = tools.real_slices[level]
    return Metric(
        "lower",
        lambda shot: _of_crops(shot)[level],
        lambda kept: sliced_wasserstein(slices(np.concatenate(kept)), real),
    )


def _neighbourhoods(pixels: NDArray[np.uint8], seed: int) -> list[Kept]:
    """The neighbourhoods of pictures (n, h, w, 3), for each level of their pyramid."""
    bands = laplacian_pyramid(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), LEVELS + 1)
    return [neighbourhoods(band, _NEIGHBOURHOODS, seed) for band in bands[:LEVELS]]


_of_crops = _once(lambda shot: _neighbourhoods(shot.crops(shot.spacing), shot.seed))


def _spectrum(tools: Tools) -> Metric:
    photos = tools.real.patches
    found = [(len(some), radial_spectrum(some)) for some in batches(photos)]
    real = np.average([power for _, power in found], axis=0, weights=[count for count, _ in found])
    return Metric(
        "lower",
        lambda shot: radial_spectrum(shot.crops(shot.spacing))[None],
        lambda kept: spectrum_distance(np.concatenate(kept).mean(0), real),
    )


def _layout(side: int, shot: Shot) -> float:
    return layout_psnr(shot.small, shot.base, side)


def _mean_of_known(kept: Sequence[Kept]) -> float:
    """The mean over the pictures for which the number is defined."""
    values = np.concatenate(kept)
    return float(np.mean(values[np.isfinite(values)])) if np.isfinite(values).any() else float("nan")


def _seam_excess(shot: Shot) -> float:
    return float("nan") if shot.reference is None else seam_excess(shot.picture, shot.reference, shot.borders)


METRICS: dict[str, Callable[[Tools], Metric]] = {
    "frechet": _frechet,
    "kernel": _kernel,
    "patch_frechet": _patch_frechet,
    "patch_kernel": _patch_kernel,
    "inception_score": _classes,
    "clip_score": _clip,
    **{f"wasserstein_{level}": partial(_wasserstein, level) for level in range(LEVELS)},
    "spectrum": _spectrum,
    "detail": _by_picture(lambda shot: detail(shot.crops(shot.spacing), shot.factor), "neither"),
    "structure": _by_picture(lambda shot: ssim(shot.small, shot.base), "higher"),
    **{f"psnr_{side}": _by_picture(partial(_layout, side), "higher") for side in LAYOUT_SIDES},
    "invented": lambda tools: Metric("lower", lambda shot: np.array([invented(shot.small, shot.base)]), _mean_of_known),
    "seam_index": _by_picture(lambda shot: seam_index(shot.picture, shot.borders), "lower"),
    "seam_excess": _by_picture(_seam_excess, "lower"),
    "duplication_index": _by_picture(
        lambda shot: duplication_index(shot.picture, shot.enlarged, shot.spacing, shot.stride), "lower"
    ),
    "patch_likeness": _by_picture(lambda shot: patch_likeness(shot.small, shot.base, *shot.parts), "lower"),
    "colour_mean": _by_picture(lambda shot: colour_drift(shot.small, shot.base)[0], "lower"),
    "colour_spread": _by_picture(lambda shot: colour_drift(shot.small, shot.base)[1], "lower"),
}
"""Distances of whole pictures (``frechet``: the FID, with Inception's features; ``kernel``: the KID) shrink them to the
model's own size and cannot see detail; those of patches look at crops that the network need not shrink. What each is:
in the module of its function."""
