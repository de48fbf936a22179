"""The image autoencoders of diffusers behind one face: KL, Tiny and DC differ in outputs and in how local they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pixelsmith.families.protocol import Tiling
from pixelsmith.families.steady import steady

LOCAL = Tiling(side=128, context=12, blend=0)
"""For residual networks that normalise per pixel: tiles equal the whole."""
GLOBAL = Tiling(side=128, context=16, blend=16)
"""For all others: more context, averaged borders, and group normalisation held steady."""


def tiling_of(config: Mapping[str, Any]) -> Tiling:
    """How an autoencoder of this configuration is run tile by tile."""
    blocks = [config.get(f"{part}_block_types") for part in ("encoder", "decoder")]
    return LOCAL if blocks == ["ResBlock", "ResBlock"] else GLOBAL


class DiffusersAutoencoder:
    """An autoencoder of diffusers, used deterministically (the mean of the posterior)."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._scale = float(vae.config.scaling_factor)
        self._shift = float(vae.config.get("shift_factor") or 0.0)
        self.tiling = tiling_of(vae.config)

    def encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Pixels in -1..1 to latents at the denoiser's scale, float32."""
        found = self._vae.encode(self._placed(pixels))
        if hasattr(found, "latent_dist"):
            latents: Tensor = found.latent_dist.mode()
        else:
            latents = found.latent if hasattr(found, "latent") else found.latents
        return (latents.float().cpu() - self._shift) * self._scale

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Latents at the denoiser's scale to pixels, about -1..1, float32."""
        pixels: Tensor = self._vae.decode(self._placed(latents / self._scale + self._shift)).sample
        return pixels.float().cpu()

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """While open, ``encode`` normalises every tile alike, by the statistics of these samples of the picture."""
        return steady(self._vae.encoder, self.encode, samples)

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """While open, ``decode`` normalises every tile alike, by the statistics of these samples of the canvas."""
        return steady(self._vae.decoder, self.decode, samples)

    def _placed(self, values: Tensor) -> Tensor:
        return values.to(self._vae.device, self._vae.dtype)
