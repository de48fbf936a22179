"""Finding, loading and running a model's texture network, which ``texture_network`` defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pixelsmith.config.parts import Parts, located
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.loading.find import OWN
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.families.loading.placing import to_channels_last
from pixelsmith.families.loading.quiet import quiet
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
    own = (read_json(folder / OWN) if (folder / OWN).exists() else {}).get("texture")
    if own is None or parts.vae is not None:
        return None
    place = Path(located(str(own), folder))
    if not (place / "config.json").is_file():
        raise ModelError(f"{folder / OWN}: texture: expected a folder with a config.json, got {own}")
    return place


def load_texture(place: Path, device: torch.device, dtype: torch.dtype) -> NetworkTexture:
    """Load a texture network onto its device. Raises ``ModelError``."""
    from pixelsmith.families.texture_network import TextureModel

    try:
        with quiet():
            model, report = TextureModel.from_pretrained(
                place, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:
        # Each library raises its own errors for damaged files.
        raise ModelError(f"{place}: the texture network cannot be loaded: {reason_of(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{place}: the texture network lacks {len(missing)} weights, such as {missing[0]}")
    return NetworkTexture(model, device)
