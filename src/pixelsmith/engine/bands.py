"""The frequency bands of smaller pictures in the latents of an autoencoder, fitted to synthetic pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.engine.codec import TILE
from pixelsmith.families.family import Autoencoder
from pixelsmith.geometry import Size
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.sampling.merging import Bands
from pixelsmith.sampling.merging.band import SIDE, Band, Filter, fit_kernel
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.device import room_for

SYNTHETIC = 32
"""The side of a synthetic picture in latents."""
SAMPLES = 16
"""The least number of latents per fitted weight of a channel."""
_Fits = dict[tuple[int, float, Kernel, bool, float], tuple[Filter, Filter]]
_FITS: WeakKeyDictionary[Autoencoder, _Fits] = WeakKeyDictionary()
"""The filters of each autoencoder that is loaded, which serve all pictures made with it."""


def low_pass_bands(factor: float) -> Bands:
    """The bands for a guide of the previous stage's latents, upsampled ``factor`` times."""
    return partial(_low_pass_band, factor)


def _low_pass_band(factor: float, position: float) -> Band:
    of_both = Filter(limit=0.5 * position / factor)
    return Band(of_both, of_both)


class FittedBands:
    """The bands for a guide of the previous stage's picture, upsampled ``factor`` times and encoded.

    At position 1 of the Slider it is the band of the previous stage, at ½ that of half of its size: the band of a
    picture ``factor / position`` times smaller. Above the latent scale, the filter is fitted for the latent scale and
    followed by a low-pass. A fit is made once per factor while the autoencoder is loaded. With 16 latent channels it
    takes a second or two on a CPU; with Flux.2's 128 its two regressions take about a minute each on one core, and
    0.4 GB of the host's memory.
    """

    def __init__(
        self, autoencoder: Autoencoder, latent_scale: int, factor: float, kernel: Kernel, doubled: bool = False
    ) -> None:
        """``doubled``: whether the latents of the guide are made by a network, so that they are like those of pictures
        of the stage's size, and the same filter is for both.
        """
        self._autoencoder, self._scale, self._factor, self._kernel = autoencoder, latent_scale, factor, kernel
        self._doubled = doubled
        self._encoded: dict[float, list[Tensor]] = {}

    def __call__(self, position: float) -> Band:
        """The band of a Slider position above 0, at most 1."""
        shrunk = self._factor / position
        fitted = min(shrunk, self._scale)
        key = (self._scale, self._factor, self._kernel, self._doubled, fitted)
        # Looked up here, because in a worker the autoencoder is the worker's own.
        fits = _FITS.setdefault(self._autoencoder, {})
        if key not in fits:
            fits[key] = self._fit(fitted)
        limit = 0.5 * self._scale / shrunk if shrunk > self._scale else math.inf
        of_clean, of_guide = (replace(fit, limit=limit) for fit in fits[key])
        return Band(of_clean, of_guide)

    def _there(self, fit: Filter) -> Filter:
        """A filter that was fitted on the host, copied to the device of the latents once."""
        return fit if fit.kernel is None else replace(fit, kernel=fit.kernel.to(self._autoencoder.device))

    def _fit(self, shrunk: float) -> tuple[Filter, Filter]:
        """The filters for latents of pictures and for latents of the guide, by regression on synthetic pictures."""
        whole, wanted = self._latents(1.0), self._latents(shrunk)
        of_clean = Filter(fit_kernel(zip(whole, wanted, strict=True)))
        if self._doubled:
            of_both = self._there(of_clean)
            return of_both, of_both
        below = self._latents(self._factor)
        # The target is the other filter's output, so that both agree where their inputs do, such as in flat areas.
        made = [of_clean(latents[None])[0] for latents in whole]
        return self._there(of_clean), self._there(Filter(fit_kernel(zip(below, made, strict=True))))

    def _latents(self, shrunk: float) -> list[Float[Tensor, "c h w"]]:
        """The latents of synthetic pictures, scaled down by a factor and up again."""
        if shrunk not in self._encoded:
            self._encoded[shrunk] = list(self._made(shrunk))
        return self._encoded[shrunk]

    def _made(self, shrunk: float) -> Iterator[Float[Tensor, "c h w"]]:
        size = Size(SYNTHETIC * self._scale, SYNTHETIC * self._scale)
        small = Size(round(size.width / shrunk), round(size.height / shrunk))
        rng, samples = np.random.default_rng(0), 0
        while True:
            picture: Readable = Array(synthetic_picture(size, rng))
            if small != size:
                below = Array(Resized(picture, size, small, "lanczos").read(small.window))
                picture = Resized(below, small, size, self._kernel)
            pixels = picture.read(size.window).float()[None] / 127.5 - 1
            with room_for(TILE):
                latents = self._autoencoder.encode(pixels)[0].cpu()
            yield latents
            samples += (SYNTHETIC - SIDE + 1) ** 2
            if samples >= SAMPLES * len(latents) * SIDE**2:
                return


def synthetic_picture(size: Size, rng: np.random.Generator) -> UInt8[Tensor, "3 h w"]:
    """Noise with the spectrum of photographs, whose amplitudes are proportional to 1/frequency, in random colours."""
    frequencies = np.hypot(np.fft.fftfreq(size.height)[:, None], np.fft.fftfreq(size.width))
    frequencies[0, 0] = 1 / max(size.height, size.width)
    white = rng.standard_normal((3, size.height, size.width))
    pink = np.fft.ifft2(np.fft.fft2(white) / frequencies).real
    # The channels of photographs are correlated.
    coloured = np.einsum("ij,jhw->ihw", 0.5 + 0.5 * np.eye(3) + 0.3 * rng.standard_normal((3, 3)), pink)
    coloured *= rng.uniform(15, 60) / coloured.std()
    return torch.from_numpy((coloured + rng.uniform(60, 190, (3, 1, 1))).round().clip(0, 255).astype(np.uint8))
