"""The pictures of an experiment, each made once: a file's name is the content key of its request."""

from __future__ import annotations

import hashlib
import json
import math
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.api.functions import resume, settings_of
from pixelsmith.api.loaded import LoadedModel
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.request import Request
from pixelsmith.config.strategies import STRATEGIES
from pixelsmith.engine.stage import batch_size_of
from pixelsmith.evaluate.protocol import base_request
from pixelsmith.evaluate.upscalers import Upscaler
from pixelsmith.families import choose_device, fetch, model_files, read_facts
from pixelsmith.pixels.files import write_picture
from pixelsmith.pixels.reading import FilePicture, read_picture
from pixelsmith.planning.stage_sizes import base_size
from pixelsmith.run.directory import Identity, RunDirectory
from pixelsmith.system.durable import read_object, read_whole, write_whole

PACKAGE = Path(str(files("pixelsmith")))
_LOOKING = ("evaluate", "viewer")
"""Folders of the package that no picture depends on, but for two files of one of them."""
_ENLARGING = ("evaluate/upscalers.py", "evaluate/exported.py")


@dataclass(frozen=True)
class Made:
    """A picture's file, and what making it took.

    ``seconds``: without loading the model, and from the kept base on where it has stages; not a number where the
    making was interrupted. ``peak_bytes``: the most memory of the process, or of CUDA.
    """

    path: Path
    seconds: float
    peak_bytes: int

    def read(self) -> FilePicture:
        """The picture, read window by window."""
        return read_picture(self.path)


@cache
def code_digest(root: Path = PACKAGE) -> str:
    """SHA-256 of the source that makes pictures: all of the package but what looks at finished ones."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in _LOOKING or name.as_posix() in _ENLARGING:
            total.update(f"{name.as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


class Pictures:
    """A folder of pictures. What is there is not made again; another model, version or code has other keys.

    The model of the picture that was made last stays loaded: the next one is most often made by the same.
    """

    def __init__(self, folder: Path, request: Request) -> None:
        """``request``: any of those whose pictures belong here; its model is looked at once."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        # Of this folder alone: another time the model may have other files.
        self._found, self._hashed = cache(_found), cache(_hashed)
        self._native = self._found(request.model, request.parts)[1].native_size
        self._identity = self._identity_of(request)
        self._model = LoadedModel.of(request)

    @property
    def provenance(self) -> dict[str, Any]:
        """What all pictures here have in common: versions, code, model, device, dtype, batch size."""
        own = self._identity
        return {
            "versions": dict(own.versions), "code_sha256": code_digest(), "model_sha256": own.model,
            "device": own.settings["device"], "dtype": own.settings["dtype"], "batch_size": own.batch_size,
        }  # fmt: skip

    def made(self, request: Request) -> Made:
        """The picture of a request. One whose making was interrupted goes on.

        Variants of one base start from the picture of it that is there, which changes nothing but the time.
        """
        path = self._folder / f"{self._key(request)}.png"
        run_dir = Path(f"{path}.run")
        if RunDirectory(run_dir).begun:
            return self._timed(path, lambda: resume(run_dir, overwrite=True), request, whole=False)
        from_base = self._from_base(request)

        def make() -> None:
            self._loaded(request).generate(from_base, path, overwrite=True)

        return self._timed(path, make, request, prepare=lambda: self._loaded(request).load())

    def base(self, request: Request) -> NDArray[np.uint8]:
        """The base picture (h, w, 3) of a request."""
        picture = self.made(base_request(request, self._native)).read()
        return np.asarray(picture.read(picture.size.window).permute(1, 2, 0))

    def enlarged(self, request: Request, name: str, upscaler: Upscaler) -> Made:
        """The base picture of a request, enlarged by an upscaler of this name."""
        base = self.base(request)
        path = self._folder / f"{self._key(base_request(request, self._native), name, str(request.size))}.png"

        def enlarge() -> None:
            larger = upscaler(base, request.prompt, request.seed, request.size)
            write_picture(larger, path, settings_of(request))

        return self._timed(path, enlarge, request)

    def _loaded(self, request: Request) -> LoadedModel:
        """Load the model of a request and free the previous one."""
        self._model = self._model.serving(request)
        return self._model

    def _from_base(self, request: Request) -> Request:
        """With the picture of its base to start from, where it has stages and they need no more of the base."""
        method, native = request.method, base_size(request.size, self._native) == self._native
        climbs = request.size != self._native and STRATEGIES[method.strategy].growth != "none"
        if not (climbs and native) or method.upsampling == "latent":
            return request
        base = self.made(base_request(request, self._native))
        # The Slider that is left open is another one above pictures that are given.
        _, facts = self._found(request.model, request.parts)
        return replace(request.settled(facts.recommended), from_image=str(base.path.absolute()))

    def _identity_of(self, request: Request) -> Identity:
        """What decides the picture of a request, with nothing left open in its method."""
        place, facts = self._found(request.model, request.parts)
        batch_size = batch_size_of(request, choose_device(request.compute.device), facts.patch)
        hashed = self._hashed(place, request.parts, batch_size, request.pictures)
        return replace(hashed, settings=settings_of(request.settled(facts.recommended)))

    def _key(self, request: Request, *more: str) -> str:
        values = vars(self._identity_of(request))
        return hashlib.sha256(json.dumps([values, code_digest(), *more], sort_keys=True).encode()).hexdigest()[:24]

    def _timed(
        self,
        path: Path,
        make: Callable[[], object],
        request: Request,
        whole: bool = True,
        prepare: Callable[[], object] = lambda: None,
    ) -> Made:
        """``whole``: whether all of it is made now; ``prepare``: what comes before it and takes time of its own."""
        record = path.with_suffix(".json")
        with suppress(OSError, ValueError, KeyError):
            values = read_object(read_whole(record))
            if path.exists():
                seconds = values["seconds"]
                return Made(path, math.nan if seconds is None else seconds, values["peak_bytes"])
        prepare()
        _forget_peak()
        began = time.perf_counter()
        make()
        made = Made(path, round(time.perf_counter() - began, 3) if whole else math.nan, _peak())
        seconds = made.seconds if whole else None
        values = {"seconds": seconds, "peak_bytes": made.peak_bytes, "request": request.to_dict()}
        write_whole(record, json.dumps(values, indent=1).encode())
        return made


def _found(model: str, parts: Parts) -> tuple[Path, ModelFacts]:
    """Where a model is on this disk, and what it is."""
    place = fetch(model, parts)
    return place, read_facts(place, model, parts)


def _hashed(place: Path, parts: Parts, batch_size: int, pictures: tuple[Path, ...]) -> Identity:
    """What decides a picture but its settings."""
    return Identity.of({}, batch_size, model_files(place, parts), pictures)


_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _forget_peak() -> None:
    """Reset the peak if the system supports it; otherwise the peak is that of the process so far."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        _RESET.write_text("5")


def _peak() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with suppress(OSError, AttributeError):
        found: Any = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        return 1024 * int(found.group(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
