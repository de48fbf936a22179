"""Other upscalers of the base picture, for comparison."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from pixelsmith.canvas import Array, MemorySpace
from pixelsmith.config.compute import Compute
from pixelsmith.config.request import EMBEDDED
from pixelsmith.engine.codec import decode, encode
from pixelsmith.engine.doubled import Doubled
from pixelsmith.engine.texture import Texture
from pixelsmith.errors import ModelError
from pixelsmith.evaluate.exported import Exported
from pixelsmith.evaluate.unavailable import UnavailableError
from pixelsmith.families import Family, find_model, load_family, read_facts
from pixelsmith.families.family import DOUBLE
from pixelsmith.families.latent_upscaler import LatentUpscaler
from pixelsmith.geometry import Size
from pixelsmith.pixels.resample import Kernel, Resized
from pixelsmith.sampling.grid import fixed_grid
from pixelsmith.sampling.readable import Readable
from pixelsmith.system.digests import sha256_of
from pixelsmith.system.places import given_place

Pixels = NDArray[np.uint8]


@runtime_checkable
class Upscaler(Protocol):
    """Enlarges a base picture (h, w, 3) to a size, given its prompt and seed."""

    def __call__(self, base: Pixels, prompt: str, seed: int, size: Size) -> Readable: ...


@dataclass(frozen=True)
class UpscalerWeights:
    """The paths of upscalers' weights: ``latent``, a folder in the diffusers format; ``super_resolution``, a file.

    The file is a ``.pt2`` program that takes pictures (1, 3, s, s) in 0..1 and returns upscaled ones. ``model``: the
    model whose own network enlarges latents, loaded as ``compute`` says.
    """

    latent: str | None = None
    super_resolution: str | None = None
    model: str = EMBEDDED
    compute: Compute = field(default_factory=Compute)

    def digest(self, name: str) -> str:
        """SHA-256 of the weights of the upscaler of this name; empty if it has none."""
        if name == "latent" and self.latent is not None:
            return sha256_of(find_model(self.latent))
        if name == "super-resolution" and self.super_resolution is not None:
            return sha256_of(given_place(self.super_resolution))
        return ""


def load_upscaler(name: str, weights: UpscalerWeights) -> Upscaler:
    """The upscaler of this name. Raises ``UnavailableError`` without its weights, ``ModelError`` for wrong ones."""
    return UPSCALERS[name](weights)


@dataclass(frozen=True)
class _Kernel:
    kernel: Kernel

    def __call__(self, base: Pixels, prompt: str, seed: int, size: Size) -> Readable:
        return _resized(base, size, self.kernel)


@dataclass(frozen=True)
class _Repeated:
    """Apply a network repeatedly until the size is reached, then scale down to it."""

    once: Callable[[Pixels, str, int], Pixels]

    def __call__(self, base: Pixels, prompt: str, seed: int, size: Size) -> Readable:
        while not size.fits_in(Size(base.shape[1], base.shape[0])):
            larger = self.once(base, prompt, seed)
            if larger.shape[0] <= base.shape[0]:
                raise ModelError(f"upscaler: expected a picture larger than {base.shape[1]}x{base.shape[0]}, got none")
            base = larger
        return _resized(base, size, "lanczos")


def _resized(pixels: Pixels, size: Size, kernel: Kernel) -> Resized:
    picture = Array(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    return Resized(picture, picture.size, size, kernel)


def _super_resolved(program: Exported, base: Pixels) -> Pixels:
    """Apply a network to a picture once, tile by tile, with averaged borders."""
    picture = Array(torch.from_numpy(base.copy()).permute(2, 0, 1))
    tiles = fixed_grid(picture.size, program.side, program.side // 4, program.side // 8)
    mosaic, factor = None, 1
    for i, tile in enumerate(tiles):
        x = picture.read(tile.window).float()[None] / 255
        missing = (0, program.side - tile.window.width, 0, program.side - tile.window.height)
        y = program(F.pad(x, missing, mode="replicate"))[0]
        if mosaic is None:
            factor = y.shape[-1] // program.side
            mosaic = MemorySpace().open("larger", tiles.scaled(factor), 3, torch.uint8)
        mosaic.put(i, 255 * y[:, : factor * tile.window.height, : factor * tile.window.width])
    if mosaic is None:
        raise ValueError("a picture has one tile at least")
    return np.asarray(mosaic.read(mosaic.size.window).permute(1, 2, 0))


def _latent(weights: UpscalerWeights) -> Upscaler:
    if weights.latent is None:
        raise UnavailableError("it needs the weights of a 2x latent upscaler (--latent-upscaler)")
    return _Repeated(LatentUpscaler(weights.latent))


def _super_resolution(weights: UpscalerWeights) -> Upscaler:
    if weights.super_resolution is None:
        raise UnavailableError("it needs a super-resolution network (--super-resolution)")
    program = Exported(given_place(weights.super_resolution))
    return _Repeated(lambda base, prompt, seed: _super_resolved(program, base))


@dataclass(frozen=True)
class _Learned:
    """Double the latents of the base by the model's network until the size is reached, then decode them once."""

    model: str
    compute: Compute

    @torch.inference_mode()
    def __call__(self, base: Pixels, prompt: str, seed: int, size: Size) -> Readable:
        family, picture = self._family, Array(torch.from_numpy(base.copy()).permute(2, 0, 1))
        scale, network = family.facts.latent_scale, family.latent_upsampler
        times = math.ceil(math.log2(size.factor_over(picture.size)) - 1e-9)
        if network is None or times < 1:
            return Resized(picture, picture.size, size, "lanczos")
        small, large = (family.facts.latent_size(picture.size.scaled(DOUBLE**each)) for each in (0, times))
        tiling, space = family.autoencoder.tiling, MemorySpace()
        latents = space.open("latents", tiling.tiles(small), family.facts.latent_channels)
        source = Resized(picture, picture.size, picture.size, "lanczos")
        encode(source, scale, family.autoencoder, latents, lambda done, total: None)
        enlarged = Array(Doubled(latents, network, times, large).read(large.window))
        found = space.open("picture", tiling.tiles(large).scaled(scale), 3, torch.uint8, picture.size.scaled(2**times))
        texture = Texture.of(family, seed, times, family.facts.recommended.texture)
        decode(enlarged, family.autoencoder, found, lambda done, total: None, texture=texture)
        return Resized(found, found.size, size, "lanczos")

    @cached_property
    def _family(self) -> Family:
        place = find_model(self.model)
        return load_family(place, read_facts(place, self.model), self.compute)


def _learned(weights: UpscalerWeights) -> Upscaler:
    if not read_facts(find_model(weights.model, weights=False), weights.model).doubles_latents:
        raise UnavailableError("the model has no network that enlarges latents")
    return _Learned(weights.model, weights.compute)


def _kernel(kernel: Literal["lanczos", "bicubic"]) -> Callable[[UpscalerWeights], Upscaler]:
    return lambda weights: _Kernel(kernel)


UPSCALERS: dict[str, Callable[[UpscalerWeights], Upscaler]] = {
    "lanczos": _kernel("lanczos"),
    "bicubic": _kernel("bicubic"),
    "latent": _latent,
    "learned": _learned,
    "super-resolution": _super_resolution,
}
