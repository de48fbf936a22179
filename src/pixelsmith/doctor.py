"""Examination of a machine, for new installations and bug reports."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from threading import Timer
from time import perf_counter
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from packaging.requirements import Requirement

from pixelsmith.api.functions import generate
from pixelsmith.config.compute import Compute, DeviceName
from pixelsmith.config.method import Method
from pixelsmith.config.request import Request
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.errors import CancelledError, reason_of
from pixelsmith.events import Event, StageStarted
from pixelsmith.families import choose_dtype, memory_of, processor_of
from pixelsmith.geometry import Size
from pixelsmith.system.remembered import cache_folder

LONGEST = 20.0
"""The limit of the self-test in seconds, which is checked before each batch of patches."""
_OF_DEVELOPERS = {"dev", "docs"}
"""Extras for developers only."""
_FEW = Method(steps=4, stage_steps=2)
"""Enough steps to run every phase; the picture is of low quality."""


@dataclass(frozen=True)
class Device:
    """A device for models, the dtype that ``--dtype auto`` chooses there, and its total memory."""

    device: str
    processor: str
    memory_bytes: int | None
    dtype: str


@dataclass(frozen=True)
class Part:
    """An optional part of the installation, whether it is present, and the command that adds it."""

    name: str
    there: bool
    install: str


@dataclass(frozen=True)
class SelfTest:
    """Whether a small picture could be made with the embedded model; ``said``: the reason if not."""

    passed: bool
    seconds: float
    said: str = ""


@dataclass(frozen=True)
class Examination:
    """The result of an examination.

    - ``versions``: of Pixelsmith, Python, the system and the dependencies; ``None`` if not installed.
    - ``devices``: the available devices; ``parts``: optional parts.
    - ``free_bytes``: on the disk of each folder that is written to, by its path.
    - ``folders``: of cached values and downloaded models.
    - ``self_test``: ``None`` if it was not requested.
    """

    versions: dict[str, str | None]
    devices: list[Device]
    parts: list[Part]
    free_bytes: dict[str, int]
    folders: dict[str, str]
    self_test: SelfTest | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def examine(self_test: bool = True, device: DeviceName = "auto") -> Examination:
    """Examine this machine. ``device``: the device of the self-test."""
    folders = {"cache": str(cache_folder()), "models": str(HF_HUB_CACHE)}
    written = (Path.cwd(), Path(tempfile.gettempdir()), *map(Path, folders.values()))
    return Examination(
        _versions(),
        list(_devices()),
        list(_parts()),
        {str(folder): shutil.disk_usage(_there(folder)).free for folder in written},
        folders,
        try_out(device) if self_test else None,
    )


def try_out(device: DeviceName = "auto", longest: float = LONGEST) -> SelfTest:
    """Make a small picture with a base and a stage, in at most ``longest`` seconds after the model is loaded."""
    token, began = CancelToken(), perf_counter()
    timer = Timer(longest, token.cancel)

    def observer(event: Event) -> None:
        # The base starts once the model is loaded.
        if isinstance(event, StageStarted) and event.stage == 0:
            timer.start()

    request = Request("watercolor map of islands", Size(512, 512), method=_FEW, compute=Compute(device))
    try:
        generate(request, observer=observer, cancel=token)
        said = ""
    except CancelledError:
        said = f"a small picture was not done in {longest:g} s; this machine, or its load, makes it slow"
    except Exception as error:  # what went wrong is what is asked for
        said = reason_of(error)
    finally:
        timer.cancel()
    return SelfTest(not said, round(perf_counter() - began, 1), said)


def _needs() -> Iterator[tuple[Requirement, str | None]]:
    """The requirements of the package, each with its extra."""
    for text in requires("pixelsmith") or ():
        need = Requirement(text)
        extra = str(need.marker).partition("extra ==")[2].strip(" \"'") if need.marker else None
        yield need, extra or None


def _version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _versions() -> dict[str, str | None]:
    own = {"pixelsmith": _version_of("pixelsmith"), "python": platform.python_version(), "system": platform.platform()}
    return own | {need.name: _version_of(need.name) for need, extra in _needs() if extra is None}


def _parts() -> Iterator[Part]:
    """The extras for users, and the viewer's script, which is built separately."""
    extras: dict[str, list[str]] = {}
    for need, extra in _needs():
        # An extra that only combines other extras has no requirements of its own.
        if extra is not None and extra not in _OF_DEVELOPERS and need.name != "pixelsmith":
            extras.setdefault(extra, []).append(need.name)
    for extra, names in extras.items():
        there = all(_version_of(name) is not None for name in names)
        yield Part(f"{extra} ({', '.join(names)})", there, f"pip install 'pixelsmith[{extra}]'")
    page = files("pixelsmith.viewer") / "page" / "openseadragon.min.js"
    yield Part("the page of 'pixelsmith view'", page.is_file(), "make viewer (in a checkout; a wheel has it)")


def _devices() -> Iterator[Device]:
    """All accelerators that PyTorch finds, then the CPU."""
    kinds = [kind for kind in ("cuda", "mps", "xpu") if getattr(torch, kind).is_available()]
    names = [f"{kind}:{index}" for kind in kinds for index in range(getattr(torch, kind).device_count())]
    for device in map(torch.device, [*names, "cpu"]):
        dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
        yield Device(str(device), processor_of(device), memory_of(device), dtype)


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if place.exists())
