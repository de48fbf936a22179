"""How well a picture preserves the structure and the colours of its base."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.evaluate.spectrum import LUMA
from pixelsmith.geometry import Size, tiles
from pixelsmith.pixels.resample import Resized
from pixelsmith.sampling.readable import Readable

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = np.array(_TO_XYZ).sum(1)


def shrunk(picture: Readable, size: Size) -> NDArray[np.uint8]:
    """A picture (3, H, W) scaled down to (h, w, 3) with Lanczos; a large one is read window by window."""
    small = Resized(picture, picture.size, size, "lanczos")
    pixels = np.empty((size.height, size.width, 3), np.uint8)
    for window in tiles(size, 64):
        pixels[window.slices] = small.read(window).permute(1, 2, 0)
    return pixels


def ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Structural similarity of the grey values of two pictures (h, w, 3) (Wang et al., 2004): 11x11 Gaussian, σ 1.5.

    From -1 to 1, 1 for equal pictures, about 0 for unrelated ones; higher is better. Pictures need 11 pixels a side.
    """
    x, y = (torch.from_numpy(pixels @ np.array(LUMA))[None, None] for pixels in (a, b))
    mean_x, mean_y = _mean(x), _mean(y)
    var_x, var_y, cov = _mean(x * x) - mean_x**2, _mean(y * y) - mean_y**2, _mean(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _C1) * (2 * cov + _C2)
    return float((top / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))).mean())


def layout_psnr(a: NDArray[np.uint8], b: NDArray[np.uint8], side: int) -> float:
    """The PSNR of two pictures (h, w, 3) after scaling their shorter sides down to ``side`` pixels, in decibels.

    10 dB more is a third of the difference; higher is better, infinite for equal pictures. At 16 pixels it compares
    layout and tones, at 64 objects as well, and at the base's size each of its pixels.
    """
    height, width = a.shape[:2]
    size = Size(width, height).scaled(side / min(width, height))
    x, y = (_shrunk_pixels(pixels, size) for pixels in (a, b))
    return float(10 * np.log10(255**2 / max(np.square(x - y).mean(), 1e-10)))


def _shrunk_pixels(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.float64]:
    """Scaled-down pixels (h, w, 3) as floats, because rounding would lose small differences."""
    picture = Array(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float())
    return np.asarray(Resized(picture, picture.size, size, "lanczos").read(size.window).permute(1, 2, 0), np.float64)


FLAT_BLOCK, FLAT_SPREAD = 16, 3.0
"""A block of this side in pixels is flat if the standard deviation of its grey values is below the second value."""


def invented(picture: NDArray[np.uint8], base: NDArray[np.uint8]) -> float:
    """Invented content of a picture (h, w, 3), at its base's size, where the base is flat.

    The root mean square, in grey values, of its difference from the base in the base's flat blocks, without the mean of
    each block. 0 if nothing was invented; lower is better; visible from about 2. Not a number without flat blocks.
    """
    ours, theirs = (_blocks(pixels @ np.array(LUMA)) for pixels in (picture, base))
    flat = theirs.std((1, 2)) < FLAT_SPREAD
    difference = (ours - theirs)[flat]
    difference = difference - difference.mean((1, 2), keepdims=True)
    return float(np.sqrt(np.square(difference).mean())) if flat.any() else float("nan")


def _blocks(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """The complete blocks (n, side, side) of a picture (h, w)."""
    rows, columns = (length // FLAT_BLOCK for length in grey.shape)
    cut = grey[: rows * FLAT_BLOCK, : columns * FLAT_BLOCK].reshape(rows, FLAT_BLOCK, columns, FLAT_BLOCK)
    return cut.swapaxes(1, 2).reshape(-1, FLAT_BLOCK, FLAT_BLOCK)


def _mean(x: Tensor) -> Tensor:
    bell = torch.exp(-0.5 * ((torch.arange(_WINDOW) - _WINDOW // 2) / _SIGMA) ** 2).to(x.dtype)
    bell = (bell / bell.sum())[None, None]
    # Column by column and row by row, because a square of 121 weights takes a copy of the picture for each of them.
    return F.conv2d(F.conv2d(x, bell[..., None]), bell[..., None, :])


def lab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB values of sRGB pixels (..., 3), white point D65: L in 0..100, a and b about -128..128 (ISO 11664-4)."""
    v = pixels / 255.0
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    t = linear @ np.array(_TO_XYZ).T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colour_drift(picture: NDArray[np.uint8], base: NDArray[np.uint8]) -> tuple[float, float]:
    """The differences of a picture's (h, w, 3) mean and standard deviation in CIELAB from those of its base.

    Both are ΔE of 1976: 0 is no drift, about 2 is visible, lower is better.
    """
    ours, theirs = (lab(pixels).reshape(-1, 3) for pixels in (picture, base))
    mean = np.linalg.norm(ours.mean(0) - theirs.mean(0))
    return float(mean), float(np.linalg.norm(ours.std(0) - theirs.std(0)))
