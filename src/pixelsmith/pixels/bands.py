"""The bands that smaller pictures know, in the latents of an autoencoder: fitted to what it makes of synthetic ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelsmith.canvas import Array
from pixelsmith.families.protocol import Autoencoder
from pixelsmith.geometry import Size
from pixelsmith.pixels.codec import TILE
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.sampling.device import room_for
from pixelsmith.sampling.merging import Bands
from pixelsmith.sampling.merging.band import SIDE, Band, fit_kernel

SYNTHETIC = 32
"""A side of a synthetic picture, in latents."""
SAMPLES = 8
"""Latents that are fitted to for each weight of a channel, at least."""


def low_pass_bands(factor: float) -> Bands:
    """Those of a guide that is the latents of the picture below, enlarged ``factor`` times."""
    return lambda position: Band(None, 0.5 * position / factor)


def fitted_bands(autoencoder: Autoencoder, latent_scale: int, factor: float, kernel: Kernel) -> Bands:
    """Those of a guide that is the encoded picture below, enlarged ``factor`` times.

    At the Slider's 1 it is what the picture below knows, at ½ what it would at half of its size: the band of a
    picture ``factor / position`` times smaller. From the latent scale on that is fitted for the latent scale, and the
    rest is a low-pass. A fit takes a second or two on a CPU, and is made once for each size.
    """
    fits: dict[float, Float[Tensor, "c c k k"]] = {}

    def band(position: float) -> Band:
        shrunk = factor / position
        fitted = min(shrunk, latent_scale)
        if fitted not in fits:
            fits[fitted] = fit_kernel(_pairs(autoencoder, latent_scale, fitted, kernel))
        return Band(fits[fitted], 0.5 * latent_scale / shrunk) if shrunk > latent_scale else Band(fits[fitted])

    return band


def _pairs(autoencoder: Autoencoder, scale: int, factor: float, kernel: Kernel) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents (c, h, w) of synthetic pictures, and of the same shrunk and enlarged again."""
    size = Size(SYNTHETIC * scale, SYNTHETIC * scale)
    small = Size(round(size.width / factor), round(size.height / factor))

    def encoded(read: Callable[..., Tensor]) -> Tensor:
        with room_for(TILE):
            return autoencoder.encode(read(size.window).float()[None] / 127.5 - 1)[0].cpu()

    rng, count = np.random.default_rng(0), 0
    while True:
        picture = Array(synthetic_picture(size, rng))
        shrunk = Array(Resized(picture, size, small, "lanczos").read(small.window))
        latents = encoded(picture.read)
        yield latents, encoded(Resized(shrunk, small, size, kernel).read)
        count += (SYNTHETIC - SIDE + 1) ** 2
        if count >= SAMPLES * len(latents) * SIDE**2:
            return


def synthetic_picture(size: Size, rng: np.random.Generator) -> UInt8[Tensor, "3 h w"]:
    """Noise with the spectrum of photographs: the amplitude of a wave is as one over its frequency, in any colours."""
    frequencies = np.hypot(np.fft.fftfreq(size.height)[:, None], np.fft.fftfreq(size.width))
    frequencies[0, 0] = 1 / max(size.height, size.width)
    white = rng.standard_normal((3, size.height, size.width))
    pink = np.fft.ifft2(np.fft.fft2(white) / frequencies).real
    # The channels of photographs go together, more or less.
    coloured = np.einsum("ij,jhw->ihw", 0.5 + 0.5 * np.eye(3) + 0.3 * rng.standard_normal((3, 3)), pink)
    coloured *= rng.uniform(15, 60) / coloured.std()
    return torch.from_numpy((coloured + rng.uniform(60, 190, (3, 1, 1))).round().clip(0, 255).astype(np.uint8))
