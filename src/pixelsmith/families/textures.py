"""Finding, loading and running a model's texture network, which ``texture_network`` defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.config.parts import Parts
from pixelsmith.families.loading.own_networks import load_own_network, own_network_of
from pixelsmith.families.loading.placing import to_channels_last
from pixelsmith.families.texture_layers import MARGIN


class NetworkTexture:
    """A loaded texture network on its device."""

    margin = MARGIN

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model, self._device = model.eval().to(device), device
        to_channels_last(self._model)

    @property
    def noise_channels(self) -> int:
        """Noise values per pixel."""
        return int(self._model.config.noise_channels)

    def __call__(self, pixels: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b k H W"]) -> Float[Tensor, "b 3 H W"]:
        """The texture to add to pixels in -1..1, float32, on its device."""
        placed = (values.to(self._device, self._model.dtype, non_blocking=True) for values in (pixels, noise))
        added: Tensor = self._model(*(values.contiguous(memory_format=torch.channels_last) for values in placed))
        return added.float()


def texture_of(folder: Path, parts: Parts) -> Path | None:
    """The folder of a model's texture network, if it has one and its own autoencoder is used.

    Raises ``ModelError`` if the folder named by the model does not exist.
    """
    return own_network_of(folder, parts, "texture")


def load_texture(place: Path, device: torch.device, dtype: torch.dtype) -> NetworkTexture:
    """Load a texture network onto its device. Raises ``ModelError``."""
    from pixelsmith.families.texture_network import TextureModel

    return NetworkTexture(load_own_network(TextureModel, "texture network", place, dtype), device)
