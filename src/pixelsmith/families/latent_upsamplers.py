"""Finding, loading and running a model's network that enlarges latents, which ``latent_upsampler_network`` defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.families.loading.own_networks import load_own_network, own_network_of
from pixelsmith.families.loading.placing import to_channels_last


class NetworkLatentUpsampler:
    """A loaded network on its device."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model.eval().to(device)
        to_channels_last(self._model)
        self._device = device

    @property
    def margin(self) -> int:
        """The receptive field: how many latents around a window affect its enlargement."""
        return int(self._model.margin)

    @torch.inference_mode()
    def __call__(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c H W"]:
        """Latents at the denoiser's scale, enlarged by 2 on each side, float32, on its device."""
        placed = latents.to(self._device, self._model.dtype, non_blocking=True)
        found: Tensor = self._model(placed.contiguous(memory_format=torch.channels_last))
        return found.float()


def latent_upsampler_of(folder: Path, parts: Parts) -> Path | None:
    """The folder of a model's network that enlarges latents, if it has one and its own autoencoder is used.

    Raises ``ModelError`` if the folder named by the model does not exist.
    """
    return own_network_of(folder, parts, "latent_upsampler")


def load_latent_upsampler(
    place: Path, channels: int, device: torch.device, dtype: torch.dtype
) -> NetworkLatentUpsampler:
    """Load a network for latents of so many channels onto its device. Raises ``ModelError``."""
    from pixelsmith.families.latent_upsampler_network import LatentUpsamplerModel

    found = read_json(place / "config.json").get("latent_channels")
    if found != channels:
        raise ModelError(f"{place}: expected a latent upsampler for {channels} channels, got one for {found}")
    return NetworkLatentUpsampler(load_own_network(LatentUpsamplerModel, "latent upsampler", place, dtype), device)
