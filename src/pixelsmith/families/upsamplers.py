"""Super-resolution networks, which spandrel recognises by the tensors in a file."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor

from pixelsmith.config.parts import Parts
from pixelsmith.errors import MissingPartError, ModelError, reason_of
from pixelsmith.families.loading.find import find_addition
from pixelsmith.families.loading.model_files import check_weights
from pixelsmith.system.device import finite, room_for

_TILE = "a tile of the upsampler"


@runtime_checkable
class Upsampler(Protocol):
    """Enlarges pictures by a whole factor."""

    @property
    def scale(self) -> int:
        """The factor on each side, at least 2."""
        ...

    def __call__(self, pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 H W"]:
        """The enlarged picture, with ``scale`` pixels a side for each pixel."""
        ...


class SuperResolution:
    """A network of spandrel, in float32 on a device."""

    def __init__(self, network: Any, device: torch.device) -> None:
        self._network, self._device = network.to(device).eval(), device

    @property
    def scale(self) -> int:
        """The factor on each side."""
        return int(self._network.scale)

    @torch.inference_mode()
    def __call__(self, pixels: UInt8[Tensor, "3 h w"]) -> UInt8[Tensor, "3 H W"]:
        """The enlarged picture. Raises ``DeviceError`` without memory for it, or if a value is not finite."""
        with room_for(_TILE):
            found = self._network(pixels.to(self._device).float()[None] / 255)[0]
            return (255 * finite(found, _TILE)).round().to(torch.uint8).cpu()


def check_upsampler(parts: Parts, fetched: bool) -> None:
    """Check that the upsampler, if there is one, is a super-resolution network for three channels.

    Without ``fetched`` that of a hub id is checked only if it is here. Raises ``ModelError``, and ``MissingPartError``
    if spandrel cannot be imported.
    """
    if parts.upsampler is None:
        return
    file = find_addition(parts.upsampler, parts.allow_pickle, weights=fetched)
    if file.is_file():
        found = file.stat()
        _check(file, found.st_size, found.st_mtime_ns)


def load_upsampler(name: str, allow_pickle: bool, device: torch.device) -> Upsampler:
    """Load an upsampler onto a device. Raises ``ModelError``, and ``MissingPartError`` without spandrel."""
    return SuperResolution(_read(find_addition(name, allow_pickle)), device)


@lru_cache(maxsize=16)
def _check(file: Path, size: int, changed: int) -> None:
    """Check a file, once for each state of it, because it is read as a whole."""
    _read(file)


def _read(file: Path) -> Any:
    check_weights(file)
    with warnings.catch_warnings(action="ignore"):
        try:
            import spandrel
        except Exception as error:
            # A torchvision that was built for another torch raises errors of several kinds.
            raise MissingPartError(
                f"--upsampler: spandrel cannot be imported ({reason_of(error)}); install it, with a torchvision that "
                f"fits torch {torch.__version__}: pip install 'pixelsmith[upsampler]'"
            ) from error
        try:
            network = spandrel.ModelLoader().load_from_file(file)
        except spandrel.UnsupportedModelError as error:
            raise ModelError(f"{file}: expected a super-resolution network of a kind that spandrel knows") from error
        except Exception as error:
            # Each of its architectures raises its own errors for damaged files.
            raise ModelError(f"{file}: it cannot be loaded as an upsampler: {reason_of(error)}") from error
    if network.purpose != "SR" or network.scale < 2:
        raise ModelError(
            f"{file}: expected a network for super-resolution, got a {network.architecture.name} for "
            f"{network.purpose} with a scale of {network.scale}"
        )
    if (network.input_channels, network.output_channels) != (3, 3):
        raise ModelError(
            f"{file}: expected a network with 3 channels, got {network.input_channels} in and "
            f"{network.output_channels} out"
        )
    return network
