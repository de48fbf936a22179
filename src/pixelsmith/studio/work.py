"""What the jobs of the studio compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixelsmith import CancelToken, Event, LoadedModel, Observer, Progress, Region, Request, Size
from pixelsmith.api.functions import settings_of
from pixelsmith.canvas import Array
from pixelsmith.pixels.files import write_into, write_picture
from pixelsmith.pixels.metadata import read_metadata
from pixelsmith.pixels.output import Output
from pixelsmith.run.directory import RunDirectory
from pixelsmith.studio.jobs import Job, Kind

MASK_SIDE = 4096
"""Pixels on the longer side of the mask of a place that is made again, at most."""
PLACE_SIDE = 192
"""Pixels on a side of a place: enough to judge by, and seconds of work (docs/decisions/0037-studio.md)."""


def do(
    job: Job, model: LoadedModel | None, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> LoadedModel:
    """Compute what is missing of a job, and return the model that did, to be used again.

    ``tell`` is called after each picture of several. Raises as ``LoadedModel.generate`` does.
    """
    request = job.request
    model = LoadedModel.of(request) if model is None else model.serving(request)
    _WORK[job.kind](job, request, model, observer, cancel, tell)
    return model


def _candidates(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """Base pictures of several seeds: each is what a picture with its seed grows from."""
    for seed in job.seeds:
        if seed not in job.results:
            own = job.form.with_seed(seed).request()
            _write(job, seed, model.base(own, observer, cancel), settings_of(own))
            tell()


def _place(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """One place at several positions of the Slider; each is there as soon as it is made."""
    for slider in job.sliders:
        if slider not in job.results:
            found = model.preview(request, job.at, (slider,), PLACE_SIDE, observer, cancel=cancel, surroundings=0)
            _write(job, slider, found.pixels, found.settings)
            tell()


def _grow(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """The picture itself, in a run directory, from where it was left."""
    if RunDirectory(job.run_dir).begun:
        model.resume(job.run_dir, observer, job.output, overwrite=True, cancel=cancel)
    else:
        model.generate(request, job.output, observer, job.run_dir, overwrite=True, cancel=cancel)


def _redo(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """The next version of a picture: another one of a place, the same elsewhere."""

    def observe(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "denoise":
            # One stage is made, and nearly all of its time are its steps.
            event = replace(event, share=(event.step - 1 + event.done / event.total) / event.steps)
        observer(event)

    _paint(job, request.size)
    found = model.redo(request, job.before, mask=job.mask, observer=observe, cancel=cancel)
    with Output(job.output, overwrite=True) as there:
        write_into(there, found.picture, found.settings, about=read_metadata(job.before))


def _paint(job: Job, size: Size) -> None:
    """Keep the outline of a place as a mask, as ``pixelsmith redo`` takes one."""
    small = size.scaled(min(1.0, MASK_SIDE / max(size.width, size.height)))
    mask = Image.new("L", (small.width, small.height))
    corners = Region(job.form.prompt, polygon=job.polygon, unit="percent").corners(small)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    mask.save(job.mask)


_WORK: Mapping[Kind, Callable[..., None]] = {"candidates": _candidates, "place": _place, "grow": _grow, "redo": _redo}


def _write(job: Job, number: float, pixels: NDArray[np.uint8], settings: Mapping[str, Any]) -> None:
    write_picture(Array(torch.from_numpy(pixels).permute(2, 0, 1)), job.picture_of(number), settings)
