"""The computation of each kind of job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixelsmith import CancelToken, LoadedModel, Observer, Region, Request, Size
from pixelsmith.api.functions import settings_of
from pixelsmith.canvas import Array
from pixelsmith.pixels.files import write_into, write_picture
from pixelsmith.pixels.metadata import read_metadata
from pixelsmith.pixels.output import Output
from pixelsmith.run.directory import RunDirectory
from pixelsmith.studio.jobs import Job, Kind

MASK_SIDE = 4096
"""The longest side of the mask of a redo, in pixels."""
PLACE_SIDE = 192
"""The side of a preview in pixels: enough to judge by, in seconds (docs/decisions/0037-studio.md)."""


def do(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """Compute the missing results of a job with the model of its request.

    ``tell`` is called after each result. Raises as ``LoadedModel.generate`` does.
    """
    _WORK[job.kind](job, request, model, observer, cancel, tell)


def _candidates(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """The base picture for each seed: a picture with that seed grows from it."""
    for seed in job.seeds:
        if seed not in job.results:
            own = job.form.with_seed(seed).request()
            _write(job, seed, model.base(own, observer, cancel), settings_of(own))
            tell()


def _place(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """A preview of one place at each position of the Slider, saved one by one."""
    for slider in job.sliders:
        if slider not in job.results:
            found = model.preview(request, job.at, (slider,), PLACE_SIDE, observer, cancel=cancel, surroundings=0)
            _write(job, slider, found.pixels, found.settings)
            tell()


def _grow(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """The picture, in a run directory, from which it is resumed if it was begun before."""
    if RunDirectory(job.run_dir).begun:
        model.resume(job.run_dir, observer, job.output, overwrite=True, cancel=cancel)
    else:
        model.generate(request, job.output, observer, job.run_dir, overwrite=True, cancel=cancel)


def _redo(
    job: Job, request: Request, model: LoadedModel, observer: Observer, cancel: CancelToken, tell: Callable[[], None]
) -> None:
    """A new version of a picture, in which only one part changes."""
    _paint(job, request.size)
    found = model.redo(request, job.before, mask=job.mask, observer=observer, cancel=cancel)
    with Output(job.output, overwrite=True) as there:
        write_into(there, found.picture, found.settings, about=read_metadata(job.before))


def _paint(job: Job, size: Size) -> None:
    """Write the outline of the part as a mask, as for ``pixelsmith redo --mask``."""
    small = size.scaled(min(1.0, MASK_SIDE / max(size.width, size.height)))
    mask = Image.new("L", (small.width, small.height))
    corners = Region(job.form.prompt, polygon=job.polygon, unit="percent").corners(small)
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    mask.save(job.mask)


_WORK: Mapping[Kind, Callable[..., None]] = {"candidates": _candidates, "place": _place, "grow": _grow, "redo": _redo}


def _write(job: Job, number: float, pixels: NDArray[np.uint8], settings: Mapping[str, Any]) -> None:
    write_picture(Array(torch.from_numpy(pixels).permute(2, 0, 1)), job.picture_of(number), settings)
