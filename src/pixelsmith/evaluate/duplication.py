"""Whether a picture repeats itself at the distance of its patches, as if each patch drew the same subject."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.readable import Readable

CELLS = 32
"""The number of cells of descriptors along the side of a patch."""
_TOLERANCE = 2
"""The tolerance, in cells, of the distance of a repetition."""
_CHANCE = 0.01
"""Self-similarity below this counts as none."""
_LEAST_OVERLAP = 0.25
"""The least share of the picture that overlaps its shifted copy at a lag that is used."""
_LEAST_SPREAD = 1.0
"""The spread of a base's parts, in grey values, below which they do not differ."""


def duplication_index(picture: Readable, base: Readable, spacing: int, stride: Size) -> float:
    """Self-similarity at the distances of the patches, divided by that of the base picture.

    1 for a picture with the self-similarity of its base, which was made in one patch; above 1 for one that repeats
    itself from patch to patch; lower is better, at least 0. Not a number if no two patches fit beside each other.

    ``picture`` and ``base``, enlarged to the same size, are (3, H, W); ``spacing``: the side of a patch in pixels;
    ``stride``: the pixels from one patch to the next. The descriptors are the mean colour and the mean gradient of each
    cell, CELLS along the side of a patch, without variation coarser than a patch. The self-similarity at a lag is their
    normalised autocorrelation, the largest value within two cells, so that copies may be slightly displaced.
    """
    cell = max(1, spacing // CELLS)
    own, alone = (_near(autocorrelation(descriptors(pixels, cell))) for pixels in (picture, base))
    lags = _lags(own.shape, (stride.height / cell, stride.width / cell))
    return float(own[lags].mean() / max(alone[lags].mean(), _CHANCE)) if lags.any() else float("nan")


def patch_likeness(small: NDArray[np.uint8], base: NDArray[np.uint8], rows: int, columns: int) -> float:
    """How much the differences between parts of the size of a patch have decreased from the base to the picture, 0..1.

    0 if the parts differ at least as much as the base's; 1 if all are the same, as if each patch showed the whole
    prompt, with the subjects at any position in it; ``duplication_index`` detects these only at a distance of a stride.
    Lower is better. It also rises if the content of some parts is lost without a repetition.

    ``small``: the picture at the size of its ``base`` (h, w, 3). Both are divided into ``rows`` by ``columns`` equal
    parts, each described by the mean and the standard deviation of its colours. With σ the spread of these descriptors
    over the picture's parts, and σ_b that over the base's, the result is 1 - σ/σ_b. Not a number for one part.
    """
    if rows * columns < 2:
        return float("nan")
    own, alone = (_spread_of_parts(pixels, rows, columns) for pixels in (small, base))
    return float(max(0.0, 1 - own / max(alone, _LEAST_SPREAD)))


def _spread_of_parts(pixels: NDArray[np.uint8], rows: int, columns: int) -> float:
    bands = np.array_split(pixels.astype(np.float64), rows)
    parts = [part for band in bands for part in np.array_split(band, columns, axis=1)]
    described = np.array([[*part.mean((0, 1)), *part.std((0, 1))] for part in parts])
    return float(np.sqrt(described.var(0).mean()))


def descriptors(picture: Readable, cell: int) -> NDArray[np.float32]:
    """Mean colour and mean gradient of each cell (4, h, w), without variation coarser than CELLS cells."""
    rows, columns = picture.size.height // cell, picture.size.width // cell
    found = np.empty((4, rows, columns), np.float32)
    for first in range(0, rows, CELLS):
        # In bands of rows, because reading and resizing row by row takes far longer.
        count = min(CELLS, rows - first)
        band = picture.read(Window(first * cell, 0, count * cell, columns * cell))
        for row, pixels in enumerate(torch.split(band, cell, dim=1), start=first):
            found[:, row] = _described(pixels.float(), cell)
    return found - _coarse(found)


def _described(pixels: Tensor, cell: int) -> NDArray[np.float32]:
    """Mean colour and mean gradient (4, w) of a row of cells (3, cell, w·cell)."""
    jumps = F.pad(pixels.diff(dim=-1).abs().mean(0, keepdim=True), (0, 1))
    return np.asarray(torch.cat([pixels, jumps]).reshape(4, cell, -1, cell).mean((1, 3)).numpy())


def _coarse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over CELLS x CELLS neighbourhoods, which are constant for a pattern with the period of the patches."""
    x = torch.from_numpy(values)[None]
    ones = torch.ones_like(x[:, :1])
    before, after = CELLS // 2, CELLS - 1 - CELLS // 2
    sums, counts = (F.avg_pool2d(F.pad(part, (before, after, before, after)), CELLS, stride=1) for part in (x, ones))
    return np.asarray((sums / counts)[0].numpy())


def autocorrelation(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean correlation (h, 2·w - 1) of channels (c, h, w) with themselves, shifted by 0..h-1 rows, ±(w-1) columns.

    It is 1 for no shift, at column w - 1, and 0 for shifts with little overlap.
    """
    channels, height, width = values.shape
    scaled = values - values.mean((1, 2), keepdims=True)
    scaled /= np.maximum(scaled.std((1, 2), keepdims=True), 1e-8)
    shape = (2 * height, 2 * width)
    sums = np.fft.irfft2((np.abs(np.fft.rfft2(scaled, shape)) ** 2).sum(0), shape)
    overlap = np.fft.irfft2(np.abs(np.fft.rfft2(np.ones((height, width)), shape)) ** 2, shape).round()
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(overlap >= _LEAST_OVERLAP * height * width, sums / (channels * overlap), 0.0)
    return np.concatenate([mean[:height, -(width - 1) :], mean[:height, :width]], axis=1)


def _near(similar: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest value within the tolerance, at least 0."""
    x = torch.from_numpy(similar).clamp_min(0)[None, None]
    return np.asarray(F.max_pool2d(x, 2 * _TOLERANCE + 1, 1, _TOLERANCE)[0, 0].numpy())


def _lags(shape: tuple[int, ...], strides: tuple[float, float]) -> NDArray[np.bool_]:
    """The lags that are multiples of the strides (in cells, down and across) with enough overlap."""
    height, width = shape[0], (shape[1] + 1) // 2
    row, column = np.ogrid[:height, -(width - 1) : width]
    down, across = (
        np.round(np.arange(length / stride) * stride) for length, stride in zip((height, width), strides, strict=True)
    )
    enough = (height - row) * (width - abs(column)) >= _LEAST_OVERLAP * height * width
    on = np.isin(row, down) & np.isin(abs(column), across)
    return np.asarray(on & enough & ((row > 0) | (column > 0)))
