"""The whole story: check and plan the request, make a base picture, climb the cascade, write the file."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.calibrate import measure_rates
from pixelsmith.canvas import MemorySpace, Space
from pixelsmith.errors import RequestError, RunError
from pixelsmith.events import Event, Observer, PhaseFinished, Progress, RunFinished, RunStarted, StageStarted, silent
from pixelsmith.families import choose_device, choose_dtype, find_model, load_family, read_facts
from pixelsmith.forecast import Forecast, Rates, load_rates, save_rates, seconds_of
from pixelsmith.geometry import Size
from pixelsmith.pixels.files import FilePicture, check_output, picture_size, read_picture, write_picture
from pixelsmith.pixels.resample import Resized
from pixelsmith.plan import Plan, make_plan
from pixelsmith.request import Request
from pixelsmith.run import Identity, RunDirectory
from pixelsmith.sampling.denoise import Readable
from pixelsmith.stage import Cascade, Rung, batch_size_of
from pixelsmith.version import __version__
from pixelsmith.viewer import write_preview

PREVIEW_SECONDS = 60.0
"""How old a preview may get while a picture is decoded."""


@dataclass(frozen=True)
class Result:
    """A finished picture: its ``plan``, its file and its run directory, where there are such.

    ``pixels`` (height, width, 3) uint8 sRGB are read when asked for: of a gigapixel they take 3 GB.
    """

    plan: Plan
    path: Path | None
    run_dir: Path | None
    picture: Readable

    @property
    def pixels(self) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self.picture.read(self.picture.size.window).permute(1, 2, 0).numpy()
        return pixels


def plan(request: Request, calibrate: bool = False) -> Plan:
    """What the request would do and cost; nothing is run. Raises ``InputError`` as ``generate`` does.

    The time is known from the last run of the model on this machine. ``calibrate`` loads the model and measures it for
    some seconds.
    """
    facts = read_facts(find_model(request.model, weights=False), request.model)
    the_plan = make_plan(request, facts, _start_size(request))
    if calibrate:
        folder = find_model(request.model)
        measured = measure_rates(load_family(folder, read_facts(folder, request.model), request.compute), request)
        save_rates(measured, *_machine(request))
    rates = load_rates(*_machine(request))
    return replace(the_plan, seconds=None if rates is None else seconds_of(the_plan, request.method, rates))


def generate(
    request: Request,
    output: str | Path | None = None,
    observer: Observer = silent,
    run_dir: str | Path | None = None,
) -> Result:
    """Make the picture and, where ``output`` is given, write it with its settings inside (``FORMATS``).

    Where ``run_dir`` is given, or the canvases are too large for memory, all work is kept in a run directory (beside
    the output: its name and ``.run``), from which ``resume`` goes on after any interruption. One that was not asked
    for is removed at the end.

    ``observer`` is called with each ``pixelsmith.events.Event``. Raises ``InputError`` before any long work where the
    request, the model, the given picture, the output or the run directory cannot be used, and ``OutputError`` where
    the disk is full.
    """
    path = None if output is None else Path(output)
    if path is not None:
        check_output(path, request.size, settings_of(request))
    the_plan = plan(request)
    _check_memory(the_plan)
    if run_dir is None and not the_plan.on_disk:
        return _run(_Job(request, the_plan, path, observer), MemorySpace())
    if run_dir is None and path is None:
        raise RequestError(f"run directory: a picture of {request.size} needs one; give a run_dir or an output")
    place = Path(f"{path}.run" if run_dir is None else run_dir)
    _check_disk(the_plan, place)
    run = RunDirectory.create(place, _identity(request), path)
    return _run_in(run, _Job(request, the_plan, path, observer), keep=run_dir is not None)


def resume(run_dir: str | Path, observer: Observer = silent) -> Result:
    """Go on with a run that was interrupted, at any moment and in any way; the picture is the same byte for byte.

    The directory stays. Raises ``RunError`` where it is damaged, another process works in it, or the model, the
    picture to start from, the libraries or this version differ from those that began it.
    """
    run = RunDirectory(Path(run_dir))
    identity, path = run.read()
    request = Request.from_dict(identity.settings["request"])
    if difference := identity.difference_from(_identity(request)):
        raise RunError(f"{run_dir}: it cannot go on here: {difference}")
    if path is not None:
        check_output(path, request.size, settings_of(request))
    return _run_in(run, _Job(request, plan(request), path, observer), keep=True)


def _machine(request: Request) -> tuple[str, str, str]:
    """What rates depend on: the model, the device, the dtype."""
    device = choose_device(request.compute.device)
    return request.model, device.type, str(choose_dtype(request.compute.dtype, device)).removeprefix("torch.")


def settings_of(request: Request) -> dict[str, Any]:
    """What a picture file carries: the request, and what ``auto`` meant on this machine."""
    _, device, dtype = _machine(request)
    return {"pixelsmith": __version__, "request": request.to_dict(), "device": device, "dtype": dtype}


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


def _check_disk(the_plan: Plan, place: Path) -> None:
    """Refuse a run that does not fit, before hours are spent on it."""
    parent = next(folder for folder in place.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(parent).free
    if the_plan.disk_bytes > free:
        raise RequestError(
            f"disk: the run needs up to {the_plan.disk_bytes / 1e9:,.1f} GB at {parent}, {free / 1e9:,.1f} GB are free"
        )


def _identity(request: Request) -> Identity:
    picture = None if request.from_image is None else Path(request.from_image)
    batch_size = batch_size_of(request, choose_device(request.compute.device))
    return Identity.of(settings_of(request), batch_size, find_model(request.model), picture)


@dataclass(frozen=True)
class _Job:
    request: Request
    plan: Plan
    path: Path | None
    observer: Observer


def _run_in(run: RunDirectory, job: _Job, keep: bool) -> Result:
    job = replace(job, observer=_with_preview(job.observer, run.path))
    with run:
        result = _run(job, run.space, run.path)
    if keep or job.path is None:
        return result
    run.delete()
    return replace(result, picture=FilePicture.at(job.path), run_dir=None)


def _with_preview(observer: Observer, run_dir: Path) -> Observer:
    """Also keeps a small picture of the run in its directory, as new as the last minute."""
    last = time.monotonic()

    def observe(event: Event) -> None:
        nonlocal last
        observer(event)
        decoded = isinstance(event, (Progress, PhaseFinished)) and event.phase == "decode"
        if decoded and (isinstance(event, PhaseFinished) or time.monotonic() - last > PREVIEW_SECONDS):
            write_preview(run_dir)
            last = time.monotonic()

    return observe


def _run(job: _Job, space: Space, run_dir: Path | None = None) -> Result:
    request, began = job.request, time.monotonic()
    forecast = Forecast(job.plan, request.method, load_rates(*_machine(request)) or Rates())

    def observer(event: Event) -> None:
        forecast(event)
        if isinstance(event, Progress):
            event = replace(event, share=forecast.share, seconds_left=forecast.seconds_left)
        job.observer(event)

    start = None if request.from_image is None else Rung(read_picture(Path(request.from_image)), None)
    observer(RunStarted(job.plan, None if run_dir is None else str(run_dir)))
    folder = find_model(request.model)
    family = load_family(folder, read_facts(folder, request.model), request.compute)
    with torch.inference_mode():
        picture = _climb(Cascade.of(request, family, observer, space), job.plan, start)
    if job.path is not None:
        write_began = time.monotonic()
        write_picture(picture, job.path, settings_of(request))
        observer(PhaseFinished(len(job.plan.stages), "write", time.monotonic() - write_began))
    save_rates(forecast.rates, *_machine(request))
    observer(RunFinished(None if job.path is None else str(job.path), time.monotonic() - began))
    return Result(job.plan, job.path, run_dir, picture)


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
