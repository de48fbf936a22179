"""A worker: it describes its device, loads the model, and computes the jobs that it is sent."""

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
    Upsampler,
    choose_device,
    choose_dtype,
    fetch,
    load_family,
    load_upsampler,
    memory_of,
    model_files,
    processor_of,
    read_facts,
)
from pixelsmith.planning.forecast import Rates, load_rates
from pixelsmith.run.calibrate import measure_rates
from pixelsmith.run.directory import versions
from pixelsmith.run.team import name_of
from pixelsmith.sampling.grid import TileLayout
from pixelsmith.system.device import is_out_of_memory
from pixelsmith.system.digests import digest_of
from pixelsmith.system.repeatable import deterministic_algorithms
from pixelsmith.workers.model_transfer import renamed, unpack_into

PROGRAMS = 3
"""Programs kept at a time: that of the current work, and older ones whose jobs another worker may have repeated."""


@dataclass(frozen=True)
class About:
    """The description of a worker.

    - ``host`` and ``pid``: where its process runs.
    - ``device``: the kind of its device; ``processor``: the processor's name; ``memory``: its memory in bytes, if
      known.
    - ``dtypes``: the dtypes that ``auto`` chooses there, for models that stay in the range of float16 and for others.
    - ``versions``: of the libraries, as in a run's identity.
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

    ``digest``: SHA-256 of its files, if the worker's may differ; ``sent``: whether the files were sent to the worker.
    """

    name: str
    parts: Parts
    compute: Compute
    digest: str | None = None
    sent: bool = False


@dataclass(frozen=True)
class Opened:
    """A loaded model. ``texture``: the noise channels and the margin of its texture network, if it has one;
    ``upsampler``: the scale of its upsampler; ``latent_upsampler``: the margin of its network that enlarges latents.
    """

    texture: tuple[int, int] | None
    upsampler: int | None
    latent_upsampler: int | None


@dataclass
class Worker:
    """One device with a model. A ``Link`` calls its methods one after another.

    ``device``: the kind of the device, or ``auto``.
    """

    device: str = "auto"
    _family: Family | None = None
    _upsampler: Upsampler | None = None
    _places: dict[str, str] = field(default_factory=dict)
    _folder: Path | None = None
    _programs: dict[int, _Program] = field(default_factory=dict)
    _sender: Sender = field(default_factory=Sender)

    def describe(self) -> tuple[str, Any]:
        """The description of this worker: ``About``."""
        return self._answer(self._about)

    def rates(self, name: str, dtype: str) -> tuple[str, Any]:
        """The measured ``Rates`` of a model on this machine, or ``None``."""
        return self._answer(lambda: load_rates(name, self._device.type, dtype))

    def calibrate(self, request: Request) -> tuple[str, Any]:
        """Measure the ``Rates`` of the loaded model, which takes some seconds."""
        return self._answer(lambda: self._calibrated(request))

    def open(self, spec: ModelSpec) -> tuple[str, Any]:
        """Load a model. Returns ``Opened``, or ``None`` if its files must be sent first. Sent files are removed."""
        try:
            return self._answer(lambda: self._open(spec))
        finally:
            if self._folder is not None:
                # At once, because a worker can be killed at any moment.
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder, self._places = None, {}

    def receive(self, packed: bytes) -> None:
        """Write the sent files of a model to a temporary folder."""
        self._folder = Path(mkdtemp(prefix="pixelsmith-"))
        self._places = unpack_into(self._folder, packed)

    def prepare(self, number: int, program: bytes) -> None:
        """Keep a program, the function that later jobs are computed with, by its number."""
        self._programs[number] = _Program(Receiver(self._part_at, self._device), program)
        for old in sorted(self._programs)[:-PROGRAMS]:
            del self._programs[old]

    def compute(self, number: int, parts: Sequence[bytes], counts: Sequence[int]) -> tuple[Any, ...]:
        """Run a program on the inputs of a job, part by part, and keep the first ``counts`` values of each part.

        Returns ``"done"``, the seconds and the serialised values; ``"memory"`` if the device ran out of memory;
        ``"broken"`` and the reason if the device has failed; or ``"error"`` and the exception.
        """
        began = time.perf_counter()
        try:
            program = self._programs[number]
            function, inference, deterministic = program.function
            with torch.inference_mode(inference), deterministic_algorithms(deterministic):
                values = [function(program.receiver.unpack_job(data)) for data in parts]
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
        # cuBLAS reads its setting when it is first used, which may be to apply a LoRA.
        with deterministic_algorithms(compute.deterministic):
            family = load_family(place, read_facts(place, spec.name, parts), compute, parts)
        upsampler = None
        if parts.upsampler is not None:
            upsampler = load_upsampler(parts.upsampler, parts.allow_pickle, self._device)
        self._family, self._upsampler = family, upsampler
        texture, doubler = family.texture, family.latent_upsampler
        return Opened(
            None if texture is None else (texture.noise_channels, texture.margin),
            None if upsampler is None else upsampler.scale,
            None if doubler is None else doubler.margin,
        )

    def _calibrated(self, request: Request) -> Rates:
        family: Family = self._part_at("family", None)
        return measure_rates(family, request, Rates(), self._upsampler)

    @property
    def _device(self) -> torch.device:
        return choose_device(self.device)

    def _part_at(self, part: str, statistics: Any) -> Any:
        """The part of the model that a name in the received data refers to."""
        family = self._family
        if family is None:
            raise ModelError("a worker has loaded no model yet")
        if part == "upsampler":
            return self._upsampler
        if part == "autoencoder" and statistics is not None:
            return _Held(family.autoencoder, statistics)
        return family if part == "family" else getattr(family, part)

    def _answer(self, function: Callable[[], Any]) -> tuple[str, Any]:
        """``"done"`` and the result, or ``"refused"`` and the reason."""
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
    """The function of some jobs, which is deserialised when it is first needed."""

    receiver: Receiver
    packed: bytes

    @cached_property
    def function(self) -> tuple[Callable[[Any], Any], bool, bool]:
        """The function, and whether it runs in inference mode and with deterministic algorithms."""
        found: tuple[Callable[[Any], Any], bool, bool] = self.receiver.unpack(self.packed)
        return found


@dataclass(frozen=True)
class _Held:
    """An autoencoder that computes with given normalisation statistics."""

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
    """Whether the accelerator has failed, after which its process cannot use it any more."""
    return isinstance(error, torch.AcceleratorError) or any(name in str(error) for name in ("CUDA error", "HIP error"))
