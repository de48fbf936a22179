"""Functions for a single picture: they load the model and free it before the file is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelsmith.api.loaded import LoadedModel
from pixelsmith.config.compute import Placement
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.events import Observer, silent
from pixelsmith.families import pin
from pixelsmith.run.found import FoundModel
from pixelsmith.run.job import Result
from pixelsmith.run.resuming import resumed

_AS_IT_WAS = Placement()


def plan(request: Request, calibrate: bool = False, workers: Workers | None = None) -> Plan:
    """Estimate what a request would do and cost, without running it. Raises ``InputError`` as ``generate`` does.

    The time is estimated from the last run of the model on this machine; ``calibrate`` loads the model and measures it
    for some seconds. ``workers``: the devices that would share the work.

    Examples:
        >>> from pixelsmith import PRESETS, Request, Size, plan
        >>> found = plan(Request("map of a coast", Size(4096, 4096), method=PRESETS["fast"]))
        >>> [str(stage.size) for stage in found.stages]
        ['1024x1024', '4096x4096']
        >>> found.model_calls
        2134
    """
    with LoadedModel.of(request, once=True, workers=workers) as model:
        return model.plan(request, calibrate)


def generate(
    request: Request,
    output: str | Path | None = None,
    observer: Observer = silent,
    run_dir: str | Path | None = None,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
    workers: Workers | None = None,
) -> Result:
    """Make a picture and, if ``output`` is given, write it to a file that also contains its settings (``FORMATS``).

    If ``run_dir`` is given, or the canvases are too large for memory, the work is kept in a run directory (by default
    next to the output: its name with ``.run``), from which ``resume`` continues after any interruption. A run
    directory that was not asked for is removed at the end. An existing file raises an error unless ``overwrite`` is
    set; then a link is replaced, not its target.

    ``observer`` is called with each ``pixelsmith.events.Event``. ``workers``: the devices that share the work; they do
    not affect the picture. To make several pictures with one model, ``pixelsmith.load`` is faster.

    Raises ``InputError`` before any long work if the request, the model, the given picture, the output or the run
    directory cannot be used; ``OutputError`` if the disk is full; ``DeviceError`` if the device has too little memory
    for one patch or a value overflows; ``RefusedError`` if the model's safety checker refuses the base picture; and
    ``CancelledError`` once ``cancel`` is cancelled.

    Examples:
        >>> from pixelsmith import Method, Request, Size, generate
        >>> result = generate(Request("map of a coast", Size(256, 192), method=Method(steps=2)), "coast.png")
        >>> result.pixels.shape, str(result.pixels.dtype), result.path.name
        ((192, 256, 3), 'uint8', 'coast.png')
    """
    with LoadedModel.of(request, once=True, workers=workers) as model:
        return model.generate(request, output, observer, run_dir, overwrite, cancel)


def resume(
    run_dir: str | Path,
    observer: Observer = silent,
    output: str | Path | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
    placement: Placement = _AS_IT_WAS,
    cancel: CancelToken | None = None,
) -> Result:
    """Continue a run after any interruption; the picture is the same byte for byte.

    A run directory may come from somebody else, so arguments that could do harm must be given again: ``output``, if the
    picture is written outside the directory's parent folder (it may also change), and ``allow_pickle``. An existing
    file is replaced if it is the same picture, otherwise only with ``overwrite``. ``placement`` changes the device,
    memory mode, tile, batch size or attention backend of the run, or the devices that share the work; another device,
    batch size or backend changes the picture by rounding.

    Raises ``RunError`` if the directory is damaged, another process uses it, or the model, the given picture, the
    libraries or the version of Pixelsmith differ from those of the run; ``OutputError``, ``DeviceError``,
    ``RefusedError`` and ``CancelledError`` as ``generate`` does.
    """
    place = None if output is None else Path(output)
    with (
        resumed(Path(run_dir), place, allow_pickle, placement) as there,
        LoadedModel.of(there.request, once=True, workers=placement.workers) as model,
    ):
        return model.go_on(there, observer, overwrite, cancel)


def settings_of(request: Request) -> dict[str, Any]:
    """The settings that are written into a file of this request."""
    return FoundModel.of(request.model, request.parts, request.compute).settings(request)


def settings_when_made(request: Request) -> dict[str, Any]:
    """The settings in the finished file of this request: open settings are filled in, hub ids are pinned to commits."""
    model = FoundModel.of(request.model, request.parts, request.compute)
    name, parts = pin(request.model, request.parts)
    return model.settings(replace(request.settled(model.facts.recommended), model=name, parts=parts))
