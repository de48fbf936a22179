"""The whole story: check and plan the request, make a base picture, climb the cascade, write the file."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.errors import RequestError
from pixelsmith.events import Observer, RunFinished, RunStarted, StageStarted, silent
from pixelsmith.families import choose_device, choose_dtype, find_model, load_family, read_facts
from pixelsmith.geometry import Size
from pixelsmith.pixels.files import check_output, picture_size, read_picture, write_picture
from pixelsmith.pixels.resample import Resized
from pixelsmith.plan import Plan, make_plan
from pixelsmith.request import Request
from pixelsmith.sampling.denoise import Readable
from pixelsmith.stage import Cascade, Rung
from pixelsmith.version import __version__


@dataclass(frozen=True)
class Result:
    """A finished picture: ``pixels`` (height, width, 3) uint8 sRGB, its ``plan`` and its file, if one was asked for."""

    pixels: NDArray[np.uint8]
    plan: Plan
    path: Path | None


def plan(request: Request) -> Plan:
    """What the request would do and cost; nothing is loaded or run. Raises ``InputError`` as ``generate`` does."""
    facts = read_facts(find_model(request.model, weights=False), request.model)
    return make_plan(request, facts, _start_size(request))


def generate(request: Request, output: str | Path | None = None, observer: Observer = silent) -> Result:
    """Make the picture and, where ``output`` is given (.png, .jpg, .tif), write it with its settings inside.

    ``observer`` is called with each ``pixelsmith.events.Event``. Raises ``InputError`` before any long work where the
    request, the model, the given picture or the output cannot be used.
    """
    path = None if output is None else Path(output)
    settings = settings_of(request)
    if path is not None:
        check_output(path, request.size, settings)
    began = time.monotonic()
    the_plan = plan(request)
    _check_memory(the_plan)
    start = None if request.from_image is None else Rung(read_picture(Path(request.from_image)), None)
    observer(RunStarted(the_plan))
    folder = find_model(request.model)
    family = load_family(folder, read_facts(folder, request.model), request.compute)
    with torch.inference_mode():
        picture = _climb(Cascade.of(request, family, observer), the_plan, start)
    if path is not None:
        write_picture(picture, path, settings)
    observer(RunFinished(None if path is None else str(path), time.monotonic() - began))
    return Result(picture.read(request.size.window).permute(1, 2, 0).numpy(), the_plan, path)


def settings_of(request: Request) -> dict[str, Any]:
    """What a picture file carries: the request, and what ``auto`` meant on this machine."""
    device = choose_device(request.compute.device)
    dtype = str(choose_dtype(request.compute.dtype, device)).removeprefix("torch.")
    return {"pixelsmith": __version__, "request": request.to_dict(), "device": device.type, "dtype": dtype}


def _check_memory(the_plan: Plan) -> None:
    """Refuse a picture that this machine's memory cannot hold, before hours are spent on it."""
    if not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if the_plan.peak_memory_bytes > there:
        needed = the_plan.peak_memory_bytes / 1e9
        raise RequestError(
            f"size: it needs about {needed:,.0f} GB of memory, here are {there / 1e9:,.0f}; ask for less"
        )


def _climb(cascade: Cascade, the_plan: Plan, start: Rung | None) -> Readable:
    """From the start, a given picture or the model's own, through all stages to a picture of exactly the size."""
    stages = len(the_plan.stages)
    rung = start or _base(cascade, the_plan)
    for number, stage in enumerate(the_plan.stages, start=1):
        cascade.observer(StageStarted(number, stages, stage.size))
        rung = cascade.stage(number, rung, stage.size)
    if rung.picture.size == cascade.request.size:
        return rung.picture
    return Resized(rung.picture, rung.picture.size, cascade.request.size, "lanczos")


def _base(cascade: Cascade, the_plan: Plan) -> Rung:
    if the_plan.base is None:
        raise ValueError("a plan without a base needs a picture to start from")
    cascade.observer(StageStarted(0, len(the_plan.stages), the_plan.base.size))
    return cascade.base(the_plan.base.size)


def _start_size(request: Request) -> Size | None:
    return None if request.from_image is None else picture_size(Path(request.from_image))
