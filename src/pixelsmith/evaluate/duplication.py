"""Does the picture repeat itself at the distance of its patches, as when every patch draws the same subject?"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from pixelsmith.geometry import Size, Window
from pixelsmith.sampling.readable import Readable

CELLS = 32
"""Cells of descriptors on the side of a patch."""
_TOLERANCE = 2
"""Cells by which a repetition may miss the distance of the patches."""
_CHANCE = 0.01
"""Self-similarity below which there is none."""
_LEAST_OVERLAP = 0.25
"""The share of the picture that must overlap its shifted self for a lag to say something."""
_LEAST_SPREAD = 1.0
"""Of the parts of a base, in grey values: below it there is nothing that sets them apart."""


def duplication_index(picture: Readable, base: Readable, spacing: int, stride: Size) -> float:
    """Self-similarity at the distances of the patches, divided by that of the base picture there.

    1 for a picture that is as like itself as its base is, which no patches made; above 1 for one that repeats itself
    from patch to patch; lower is better, from 0. Not a number where no two patches fit beside each other.

    ``picture`` and ``base``, enlarged to the same size, are (3, H, W); ``spacing``: pixels on the side of a patch;
    ``stride``: pixels from one patch to the next. Each becomes local descriptors, CELLS for each side of a patch: the
    mean colour and the mean gradient of a cell, freed of all that is coarser than a patch. Self-similarity at a lag is
    their normalised autocorrelation, its largest value within two cells, so that copies need not lie exactly.
    """
    cell = max(1, spacing // CELLS)
    own, alone = (_near(autocorrelation(descriptors(pixels, cell))) for pixels in (picture, base))
    lags = _lags(own.shape, (stride.height / cell, stride.width / cell))
    return float(own[lags].mean() / max(alone[lags].mean(), _CHANCE)) if lags.any() else float("nan")


def patch_likeness(small: NDArray[np.uint8], base: NDArray[np.uint8], rows: int, columns: int) -> float:
    """How much of what sets the parts of the base apart, each as large as a patch, is gone in the picture: 0..1.

    0 where the parts differ as much as the base's, or more; 1 where all are the same, as when each patch shows what the
    prompt says for itself, wherever in it the subjects lie: those ``duplication_index`` does not see unless they lie a
    stride apart. Lower is better. It also rises where what was in some parts only is lost, and nothing repeated.

    ``small``: the picture at the size of its ``base`` (h, w, 3); both are cut into ``rows`` and ``columns`` of equal
    parts, and each part is described by the mean and the spread of its colours. The spread of these over the parts, σ
    for the picture and σ_b for the base, gives 1 - σ/σ_b. Not a number for one part.
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
    """Mean colour and mean gradient of each cell (4, h, w), without what is coarser than CELLS cells; read in bands."""
    rows, columns = picture.size.height // cell, picture.size.width // cell
    found = np.empty((4, rows, columns), np.float32)
    for row in range(rows):
        pixels = picture.read(Window(row * cell, 0, cell, columns * cell)).float()
        jumps = F.pad(pixels.diff(dim=-1).abs().mean(0, keepdim=True), (0, 1))
        found[:, row] = torch.cat([pixels, jumps]).reshape(4, cell, columns, cell).mean((1, 3)).numpy()
    return found - _coarse(found)


def _coarse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of CELLS x CELLS neighbourhoods: of a pattern with the period of the patches they are constant."""
    x = torch.from_numpy(values)[None]
    ones = torch.ones_like(x[:, :1])
    before, after = CELLS // 2, CELLS - 1 - CELLS // 2
    sums, counts = (F.avg_pool2d(F.pad(part, (before, after, before, after)), CELLS, stride=1) for part in (x, ones))
    return np.asarray((sums / counts)[0].numpy())


def autocorrelation(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean correlation (h, 2·w - 1) of channels (c, h, w) with themselves, shifted by 0..h-1 rows, ±(w-1) columns.

    1 at no shift, which is at column w - 1; a shift at which little of the picture overlaps is 0.
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
    """The largest value within the tolerance, 0 at least."""
    x = torch.from_numpy(similar).clamp_min(0)[None, None]
    return np.asarray(F.max_pool2d(x, 2 * _TOLERANCE + 1, 1, _TOLERANCE)[0, 0].numpy())


def _lags(shape: tuple[int, ...], strides: tuple[float, float]) -> NDArray[np.bool_]:
    """The lags that are whole strides (cells, down and across) and leave enough of the picture to compare."""
    height, width = shape[0], (shape[1] + 1) // 2
    row, column = np.ogrid[:height, -(width - 1) : width]
    down, across = (
        np.round(np.arange(length / stride) * stride) for length, stride in zip((height, width), strides, strict=True)
    )
    enough = (height - row) * (width - abs(column)) >= _LEAST_OVERLAP * height * width
    on = np.isin(row, down) & np.isin(abs(column), across)
    return np.asarray(on & enough & ((row > 0) | (column > 0)))
