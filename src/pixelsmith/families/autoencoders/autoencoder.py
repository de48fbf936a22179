"""One interface for the autoencoders of diffusers, which differ in outputs, axes, scaling and receptive fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.families.autoencoders.narrowing import Narrowing, context_of
from pixelsmith.families.autoencoders.steady import Seen, held, statistics_of, steady
from pixelsmith.families.loading.placing import to_channels_last
from pixelsmith.families.shared.packing import patchify, unpatchify
from pixelsmith.geometry import Window
from pixelsmith.sampling.grid import TileLayout

LOCAL_SIDE = 88
"""The side of tiles in latents for residual networks with normalisation per pixel, whose tiles equal the whole picture.
Larger tiles take more memory and save no time."""
TILE_PIXELS, CONTEXT_PIXELS = 1024, 128
"""The side and context of tiles in pixels for other autoencoders, with averaged borders and shared statistics of group
normalisation."""

Statistics = tuple[Literal["encode", "decode"], Sequence[Seen]]
"""The fixed normalisation statistics of an autoencoder, and the method that they are for."""


def latent_space(config: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels per latent on one axis and channels of the latents, from an autoencoder's configuration."""
    kind = config["_class_name"]
    if kind == "AutoencoderKLQwenImage":
        return 2 ** len(config["temperal_downsample"]), config["z_dim"]
    if kind == "AutoencoderKLWan":
        return config.get("scale_factor_spatial", 2 ** len(config["temperal_downsample"])), config["z_dim"]
    blocks = "encoder_block_out_channels" if kind in ("AutoencoderDC", "AutoencoderTiny") else "block_out_channels"
    scale = 2 ** (len(config[blocks]) - 1)
    if kind == "AutoencoderKLFlux2":
        return 2 * scale, 4 * config["latent_channels"]
    return scale, config["latent_channels"]


def tiling_of(config: Mapping[str, Any]) -> TileLayout:
    """The tile layout for an autoencoder of this configuration, in latents."""
    if _is_local(config):
        return TileLayout(LOCAL_SIDE, context_of(config), blend=0)
    return usual_tiling(latent_space(config)[0])


def usual_tiling(scale: int) -> TileLayout:
    """The tile layout for autoencoders that are not local, with ``scale`` pixels per latent."""
    context = max(4, min(16, CONTEXT_PIXELS // scale))
    return TileLayout(side=min(128, TILE_PIXELS // scale), context=context, blend=context)


def compile_blocks(vae: Any) -> None:
    """Compile each block of an autoencoder of residual blocks, with dynamic shapes; other autoencoders are unchanged.

    The input size of a block depends on the position of the tile (``Narrowing``). Equal blocks share a graph. PyTorch
    keeps at most eight graphs, of which the embedded model's encoder and decoder need five to seven, so with a second
    dtype in the same process some blocks run uncompiled.
    """
    if _is_local(vae.config):
        for block in chain(*vae.encoder.down_blocks, *vae.decoder.up_blocks):
            # Only ``forward``: compiling the module would include its hooks, which differ for each tile.
            block.forward = torch.compile(block.forward, dynamic=True)


class DiffusersAutoencoder:
    """An autoencoder of diffusers on ``device``, used deterministically (the mean of the posterior).

    ``tiling``: the tile layout; by default it follows from the configuration.
    """

    def __init__(self, vae: Any, device: torch.device, tiling: TileLayout | None = None) -> None:
        self._vae, self.device = vae, device
        self._video = hasattr(vae.config, "temperal_downsample")
        # Flux.2's latents are 2x2 patches, normalised by the running statistics of an otherwise unused layer.
        self._patched = hasattr(vae, "bn")
        self._mean, self._std = (values.to(device) for values in _statistics(vae))
        self.tiling = tiling or tiling_of(_config(vae))
        self._narrowing = None
        if _is_local(vae.config):
            self._narrowing = Narrowing(vae.decoder)
            # Its norms are over the channels of each pixel, which are then contiguous.
            to_channels_last(vae)

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Pixels in -1..1 to latents at the denoiser's scale, float32, on its device."""
        found = self._vae.encode(self._placed(pixels))
        if hasattr(found, "latent_dist"):
            latents: Tensor = found.latent_dist.mode()
        else:
            latents = found.latent if hasattr(found, "latent") else found.latents
        latents = latents.float()
        latents = latents[:, :, 0] if self._video else latents
        return ((patchify(latents) if self._patched else latents) - self._mean) / self._std

    def decode(self, latents: Float[Tensor, "b c h w"], kept: Window | None = None) -> Float[Tensor, "b 3 H W"]:
        """Latents at the denoiser's scale to pixels, about -1..1, float32, on its device; at least ``kept``."""
        latents = latents.to(self.device, non_blocking=True) * self._std + self._mean
        placed = self._placed(unpatchify(latents) if self._patched else latents)
        if self._narrowing is None or kept is None:
            pixels = self._decoded(placed)
        else:
            pixels = self._narrowing(self._decoded, placed, kept)
        return (pixels[:, :, 0] if self._video else pixels).float()

    def _decoded(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self._vae.decode(latents).sample
        return pixels

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """In this context ``encode`` normalises every tile with the statistics of these samples of the picture."""
        return steady(self._vae.encoder, self.encode, samples)

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """In this context ``decode`` normalises every tile with the statistics of these samples of the canvas."""
        return steady(self._vae.decoder, self.decode, samples)

    def statistics(self, method: Literal["encode", "decode"], samples: Iterable[Tensor]) -> Statistics:
        """The statistics of samples, as for ``steady_...``; ``held`` accepts them on any device."""
        return method, statistics_of(self._network(method), getattr(self, method), samples)

    def held(self, statistics: Statistics) -> AbstractContextManager[None]:
        """In this context all tiles are normalised with these statistics."""
        method, moments = statistics
        return held(self._network(method), moments)

    def _network(self, method: str) -> Any:
        return self._vae.encoder if method == "encode" else self._vae.decoder

    def _placed(self, values: Tensor) -> Tensor:
        placed = values.to(self.device, self._vae.dtype, non_blocking=True)
        if self._narrowing:
            return placed.contiguous(memory_format=torch.channels_last)
        return placed[:, :, None] if self._video else placed


def _is_local(config: Mapping[str, Any]) -> bool:
    """Whether all layers have a limited receptive field, as in ``AutoencoderDC`` models without attention."""
    return [config.get(f"{part}_block_types") for part in ("encoder", "decoder")] == ["ResBlock", "ResBlock"]


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """The shift and the divisor that normalise an autoencoder's latents; (1, c or 1, 1, 1)."""
    if hasattr(vae, "bn"):
        mean, std = vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    else:
        config = vae.config
        mean = torch.tensor(config.get("latents_mean") or config.get("shift_factor") or 0.0)
        std = torch.tensor(config.get("latents_std") or 1.0) / float(config.get("scaling_factor") or 1.0)
    return mean.float().cpu().reshape(1, -1, 1, 1), std.float().cpu().reshape(1, -1, 1, 1)


def _config(vae: Any) -> dict[str, Any]:
    return {**vae.config, "_class_name": type(vae).__name__}
