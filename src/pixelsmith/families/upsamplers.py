"""Super-resolution networks, which spandrel recognises by the tensors in a file."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from pixelsmith.config.parts import Parts
from pixelsmith.errors import MissingPartError, ModelError, reason_of
from pixelsmith.families.live_tensors import LiveTensors
from pixelsmith.families.loading.find import find_addition
from pixelsmith.families.loading.model_files import check_weights
from pixelsmith.system.device import finite

_TILE = "a tile of the upsampler"
_COUNTED_SIDE = 128
_WIDEST = 4


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


@dataclass(frozen=True)
class UpsamplerFacts:
    """``scale``: the factor on each side; ``parameters``: the number of weights; ``pixel_values``: an upper estimate of
    the numbers that are held at once for each pixel of the source.
    """

    scale: int
    parameters: int
    pixel_values: int


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
        """The enlarged picture. Raises ``DeviceError`` if a value is not finite."""
        found = self._network(pixels.to(self._device).float()[None] / 255)[0]
        return (255 * finite(found, _TILE)).round().to(torch.uint8).cpu()


def read_upsampler(parts: Parts, fetched: bool) -> UpsamplerFacts | None:
    """The facts of the upsampler, if there is one: a super-resolution network for three channels.

    Without ``fetched`` that of a hub id is read only if it is here. Raises ``ModelError``, and ``MissingPartError`` if
    spandrel cannot be imported.
    """
    if parts.upsampler is None:
        return None
    file = find_addition(parts.upsampler, parts.allow_pickle, weights=fetched)
    if not file.is_file():
        return None
    found = file.stat()
    return _facts(file, found.st_size, found.st_mtime_ns)


def load_upsampler(name: str, allow_pickle: bool, device: torch.device) -> Upsampler:
    """Load an upsampler onto a device. Raises ``ModelError``, and ``MissingPartError`` without spandrel."""
    return SuperResolution(_read(find_addition(name, allow_pickle)), device)


@lru_cache(maxsize=16)
def _facts(file: Path, size: int, changed: int) -> UpsamplerFacts:
    """The facts of a file, once for each state of it, because it is read as a whole."""
    network = _read(file)
    parameters = sum(values.numel() for values in network.model.state_dict().values())
    return UpsamplerFacts(int(network.scale), parameters, pixel_values(network.model, int(network.scale)))


def pixel_values(network: nn.Module, scale: int) -> int:
    """The numbers per pixel of the source that a network holds at once. It is moved to the meta device for that, and
    cannot be used afterwards.

    It is run with tensors without data, and the largest sum of live tensors is counted; kernels need half as much
    besides. Where a network cannot be run so, the output of its widest convolution is taken several times.
    """
    network.to("meta")
    try:
        live = LiveTensors([*network.parameters(), *network.buffers()])
        with torch.no_grad(), live:
            network(torch.empty(1, 3, _COUNTED_SIDE, _COUNTED_SIDE, device="meta"))
    except Exception:
        # Some architectures use operations that tensors without data do not support.
        return (
            _WIDEST * scale**2 * max((len(values) for values in network.parameters() if values.ndim == 4), default=64)
        )
    return math.ceil(1.5 * live.peak / 4 / _COUNTED_SIDE**2)


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
