"""What a worker does: it says what it is, loads the model, and computes what it is sent. It knows of no run."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

import torch
from torch import Tensor

from pixelsmith.config.compute import Compute, DeviceName, DtypeName
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import Request
from pixelsmith.engine.shipping import Receiver, Sender
from pixelsmith.errors import ModelError, PixelsmithError, reason_of
from pixelsmith.families import (
    Family,
    choose_device,
    choose_dtype,
    fetch,
    load_family,
    memory_of,
    model_files,
    processor_of,
    read_facts,
    unpinned,
)
from pixelsmith.planning.forecast import Rates, load_rates, save_rates
from pixelsmith.run.calibrate import measure_rates
from pixelsmith.run.directory import versions
from pixelsmith.run.team import name_of
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.system.device import is_out_of_memory
from pixelsmith.system.digests import digest_of
from pixelsmith.workers.model_transfer import renamed, unpack_into

PROGRAMS = 3
"""Kept at a time: of the work that goes on, and of what was given to others in the end."""


@dataclass(frozen=True)
class About:
    """What a worker is.

    ``host`` and ``pid``: where; ``device``: its kind, ``processor``: what computes there; ``memory``: bytes of it,
    where they are known; ``dtypes``: what ``auto`` means there, for models that stay in the range of float16 and for
    others; ``versions``: as in a run's identity.
    """

    host: str
    pid: int
    device: str
    processor: str
    memory: int | None
    dtypes: tuple[DtypeName, DtypeName]
    versions: dict[str, str]


@dataclass(frozen=True)
class ModelSpec:
    """A model to load.

    ``digest``: SHA-256 of its files, where a worker may have others; ``sent``: whether its files were sent.
    """

    name: str
    parts: Parts
    compute: Compute
    digest: str | None = None
    sent: bool = False


@dataclass(frozen=True)
class Opened:
    """A model that is loaded. ``texture``: the channels of noise and the margin of its texture network."""

    texture: tuple[int, int] | None


@dataclass
class Worker:
    """One device with a model. Its methods are called one after another, by a ``Link``.

    ``device``: the kind that it is to be on, or ``auto``.
    """

    device: str = "auto"
    _family: Family | None = None
    _dtype: str = ""
    _places: dict[str, str] = field(default_factory=dict)
    _folder: Path | None = None
    _programs: dict[int, _Program] = field(default_factory=dict)
    _sender: Sender = field(default_factory=Sender)

    def describe(self) -> tuple[str, Any]:
        """What this worker is: ``About``."""
        return self._answer(self._about)

    def rates(self, name: str, dtype: str) -> tuple[str, Any]:
        """What was measured here of a model: ``Rates``, or ``None``."""
        return self._answer(lambda: load_rates(name, self._device.type, dtype))

    def calibrate(self, request: Request) -> tuple[str, Any]:
        """Measure the loaded model for some seconds: ``Rates``, which are remembered here."""
        return self._answer(lambda: self._calibrated(request))

    def open(self, spec: ModelSpec) -> tuple[str, Any]:
        """Load a model: ``Opened``, or ``None`` where it is not here and is to be sent."""
        return self._answer(lambda: self._open(spec))

    def receive(self, packed: bytes) -> None:
        """Keep the files of a model that is not here."""
        self._folder = Path(mkdtemp(prefix="pixelsmith-"))
        self._places = unpack_into(self._folder, packed)

    def prepare(self, number: int, program: bytes) -> None:
        """Keep what is to be computed with, by its number."""
        self._programs[number] = _Program(Receiver(self._part_at, self._device), program)
        for old in sorted(self._programs)[:-PROGRAMS]:
            del self._programs[old]

    def compute(self, number: int, parts: Sequence[bytes], counts: Sequence[int]) -> tuple[Any, ...]:
        """What a program makes of inputs, part by part; of each part so many values count.

        Returns ``"done"``, the seconds it took and the packed values; ``"memory"`` where the device has not enough of
        it; ``"broken"`` and why, where nothing more is to be expected of the device; ``"error"`` and what was raised.
        """
        began = time.perf_counter()
        try:
            program = self._programs[number]
            function, inference = program.function
            with torch.inference_mode(inference):
                values = [function(program.receiver.unpack(data)) for data in parts]
                data = self._sender.pack(_joined(values, counts))
            return "done", time.perf_counter() - began, data
        except RuntimeError as error:
            if is_out_of_memory(error):
                return ("memory",)
            return ("broken", reason_of(error)) if _is_broken(error) else self._raised(error)
        except Exception as error:
            return self._raised(error)

    def _about(self) -> About:
        device = self._device
        safe, unsafe = (name_of(choose_dtype("auto", device, float16_safe)) for float16_safe in (True, False))
        return About(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device.type,
            processor=processor_of(device),
            memory=memory_of(device),
            dtypes=(safe, unsafe),
            versions=versions() | {"python": platform.python_version()},
        )

    def _open(self, spec: ModelSpec) -> Opened | None:
        compute = replace(spec.compute, device=cast("DeviceName", self._device.type))
        parts = renamed(spec.parts, self._places)
        try:
            place = fetch(self._places.get(spec.name, spec.name), parts)
            digest = spec.digest and digest_of(model_files(place, parts))
        except ModelError:
            if spec.sent or spec.digest is None:
                raise
            return None
        if digest != spec.digest:
            raise ModelError(f"the files of {spec.name} there are not those of the run")
        family = load_family(place, read_facts(place, spec.name, parts), compute, parts)
        if self._folder is not None:
            # A worker can end at any moment, and nobody would remove them then.
            shutil.rmtree(self._folder, ignore_errors=True)
        self._family, self._dtype, texture = family, compute.dtype, family.texture
        return Opened(None if texture is None else (texture.noise_channels, texture.margin))

    def _calibrated(self, request: Request) -> Rates:
        family = self._part_at("family", None)
        machine = unpinned(family.facts.name), self._device.type, self._dtype
        rates = measure_rates(family, request, load_rates(*machine) or Rates())
        save_rates(rates, *machine)
        return rates

    @property
    def _device(self) -> torch.device:
        return choose_device(self.device)

    def _part_at(self, part: str, statistics: Any) -> Any:
        """The part of the model that stands for its name in what was sent."""
        family = self._family
        if family is None:
            raise ModelError("a worker has loaded no model yet")
        if part == "autoencoder" and statistics is not None:
            return _Held(family.autoencoder, statistics)
        return family if part == "family" else getattr(family, part)

    def _answer(self, function: Callable[[], Any]) -> tuple[str, Any]:
        """``"done"`` and what it gives, or ``"refused"`` and why."""
        try:
            return "done", function()
        except PixelsmithError as error:
            return "refused", str(error)
        except Exception as error:
            return "refused", reason_of(error)

    def _raised(self, error: Exception) -> tuple[str, bytes]:
        try:
            return "error", self._sender.pack(error)
        except TypeError:
            return "error", self._sender.pack(RuntimeError(reason_of(error)))


@dataclass
class _Program:
    """What is computed with: as it was sent, and, once it is needed, as it is."""

    receiver: Receiver
    packed: bytes

    @cached_property
    def function(self) -> tuple[Callable[[Any], Any], bool]:
        """It, and whether it computes without gradients."""
        found: tuple[Callable[[Any], Any], bool] = self.receiver.unpack(self.packed)
        return found


@dataclass(frozen=True)
class _Held:
    """An autoencoder that is held steady while it works."""

    autoencoder: Any
    statistics: Any

    @property
    def tiling(self) -> TileLayout:
        found: TileLayout = self.autoencoder.tiling
        return found

    @property
    def device(self) -> torch.device:
        found: torch.device = self.autoencoder.device
        return found

    def encode(self, pixels: Tensor) -> Tensor:
        with self.autoencoder.held(self.statistics):
            found: Tensor = self.autoencoder.encode(pixels)
            return found

    def decode(self, latents: Tensor, kept: Any = None) -> Tensor:
        with self.autoencoder.held(self.statistics):
            found: Tensor = self.autoencoder.decode(latents, kept)
            return found


def _joined(values: Sequence[Any], counts: Sequence[int]) -> Any:
    if len(values) > 1 and isinstance(values[0], tuple):
        return tuple(_joined(each, counts) for each in zip(*values, strict=True))
    if not isinstance(values[0], Tensor):
        return values[0]
    kept = [part[:count] for part, count in zip(values, counts, strict=True)]
    return torch.cat(kept) if len(kept) > 1 else kept[0]


def _is_broken(error: RuntimeError) -> bool:
    """Whether an accelerator has failed: its process can do nothing more with it."""
    return isinstance(error, torch.AcceleratorError) or any(name in str(error) for name in ("CUDA error", "HIP error"))
