"""Adapts an autoencoder that is loaded in ComfyUI to Pixelsmith's interface."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from pixelsmith.extension import Window, steady, usual_tiling


class ComfyAutoencoder:
    """ComfyUI's ``vae`` with the ``model`` (of class ``BaseModel``) that denoises its latents."""

    def __init__(self, vae: Any, model: Any) -> None:
        self._vae, self._model = vae, model
        self._video = model.latent_format.latent_dimensions == 3
        self.tiling = usual_tiling(vae.spacial_compression_encode())
        # ComfyUI moves inputs to its own device, and results back.
        self.device = torch.device("cpu")

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (b, 3, H, W) in -1..1 to latents (b, c, h, w) as the model sees them, float32."""
        # One at a time: video autoencoders take a batch of pictures for the frames of one video.
        found = [self._vae.encode(picture.movedim(0, -1)[None] / 2 + 0.5) for picture in pixels]
        latents: Tensor = self._model.process_latent_in(torch.cat(found)).float().cpu()
        return latents[:, :, 0] if self._video else latents

    def decode(self, latents: Tensor, kept: Window | None = None) -> Tensor:
        """Latents (b, c, h, w) as the model sees them to pixels (b, 3, H, W) in -1..1, float32."""
        own = self._model.process_latent_out(latents[:, :, None] if self._video else latents)
        pixels = [self._vae.decode(one[None]) for one in own]
        return torch.cat([one.reshape(-1, *one.shape[-3:])[:1] for one in pixels]).movedim(-1, 1).float().cpu() * 2 - 1

    def steady_encoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """While open, ``encode`` normalises every tile alike, by the statistics of these samples of the picture."""
        return self._steady("encoder", self.encode, samples)

    def steady_decoding(self, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        """While open, ``decode`` normalises every tile alike, by the statistics of these samples of the canvas."""
        return self._steady("decoder", self.decode, samples)

    def _steady(self, half: str, run: Any, samples: Iterable[Tensor]) -> AbstractContextManager[None]:
        network = getattr(self._vae.first_stage_model, half, None)
        return nullcontext() if network is None else steady(network, run, samples)
