"""One picture at a time: the model is loaded for it and freed before it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelsmith.api.loaded import LoadedModel
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Placement, Request
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.events import Observer, silent
from pixelsmith.families import pin
from pixelsmith.run.found import FoundModel
from pixelsmith.run.job import Result
from pixelsmith.run.resuming import resumed

_AS_IT_WAS = Placement()


def plan(request: Request, calibrate: bool = False) -> Plan:
    """What the request would do and cost; nothing is run. Raises ``InputError`` as ``generate`` does.

    The time is known from the last run of the model on this machine. ``calibrate`` loads the model and measures it for
    some seconds.

    Examples:
        >>> from pixelsmith import PRESETS, Request, Size, plan
        >>> found = plan(Request("map of a coast", Size(4096, 4096), method=PRESETS["fast"]))
        >>> [str(stage.size) for stage in found.stages]
        ['1024x1024', '4096x4096']
        >>> found.model_calls
        2134
    """
    with LoadedModel.of(request, once=True) as model:
        return model.plan(request, calibrate)


def generate(
    request: Request,
    output: str | Path | None = None,
    observer: Observer = silent,
    run_dir: str | Path | None = None,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Result:
    """Make the picture and, where ``output`` is given, write it with its settings inside (``FORMATS``).

    Where ``run_dir`` is given, or the canvases are too large for memory, all work is kept in a run directory (beside
    the output: its name and ``.run``), from which ``resume`` goes on after any interruption. One that was not asked
    for is removed at the end. A file that is there already is kept, and the request refused, unless ``overwrite`` is
    set; a link is replaced then, not what it leads to.

    ``observer`` is called with each ``pixelsmith.events.Event``. Raises ``InputError`` before any long work where the
    request, the model, the given picture, the output or the run directory cannot be used, and ``OutputError`` where
    the disk is full, ``DeviceError`` where the device has no memory for one patch or a number leaves its range,
    ``RefusedError`` where the model's safety checker refuses the base picture, and ``CancelledError`` where ``cancel``
    ends it. Several pictures of one model are made faster with ``pixelsmith.load``.

    Examples:
        >>> from pixelsmith import Method, Request, Size, generate
        >>> result = generate(Request("map of a coast", Size(256, 192), method=Method(steps=2)), "coast.png")
        >>> result.pixels.shape, str(result.pixels.dtype), result.path.name
        ((192, 256, 3), 'uint8', 'coast.png')
    """
    with LoadedModel.of(request, once=True) as model:
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
    """Go on with a run that was interrupted, at any moment and in any way; the picture is the same byte for byte.

    A directory can come from somebody else, so what could do harm is asked for again: ``output`` where the picture
    goes elsewhere than into the directory's folder (it may also be another place than before), and ``allow_pickle``.
    A file that is there already is replaced if it is this very picture, another one only with ``overwrite``.
    ``placement``: another device, way to use its memory, or batch size than before; the first and the last change the
    picture by rounding.

    Raises ``RunError`` where the directory is damaged, another process works in it, or the model, the picture to start
    from, the libraries or this version differ from those that began it; ``OutputError``, ``DeviceError``,
    ``RefusedError`` and ``CancelledError`` as ``generate`` does.
    """
    place = None if output is None else Path(output)
    with (
        resumed(Path(run_dir), place, allow_pickle, placement) as there,
        LoadedModel.of(there.request, once=True) as model,
    ):
        return model.go_on(there, observer, overwrite, cancel)


def settings_of(request: Request) -> dict[str, Any]:
    """What a picture file of this request carries."""
    return FoundModel.of(request.model, request.parts, request.compute).settings(request)


def settings_when_made(request: Request) -> dict[str, Any]:
    """What the file of this request carries once it is made: nothing is left to the model, hub ids have commits."""
    model = FoundModel.of(request.model, request.parts, request.compute)
    name, parts = pin(request.model, request.parts)
    return model.settings(replace(request.settled(model.facts.recommended), model=name, parts=parts))
