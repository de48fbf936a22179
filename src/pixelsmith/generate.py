"""The whole story: check and plan the request, make a base picture, climb the cascade, write the file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.calibrate import measure_rates
from pixelsmith.canvas import Array, MemorySpace, Space
from pixelsmith.errors import InputError, RefusedError, RequestError, RunError
from pixelsmith.events import (
    Event,
    Observer,
    PhaseFinished,
    Progress,
    RunFinished,
    RunStarted,
    StageStarted,
    Warned,
    silent,
)
from pixelsmith.families import (
    Family,
    check_complete,
    check_parts,
    check_weighting,
    choose_device,
    choose_dtype,
    fetch,
    find_model,
    load_captioner,
    load_family,
    model_files,
    pin,
    processor_of,
    read_facts,
    unpinned,
)
from pixelsmith.forecast import Forecast, Rates, load_rates, save_rates, seconds_of
from pixelsmith.geometry import Size
from pixelsmith.given import Given, about, keeps_alpha
from pixelsmith.memory import give_back_memory
from pixelsmith.parts import located
from pixelsmith.pixels.depth import Depth, as_bytes
from pixelsmith.pixels.files import FORMATS, check_output, has_settings, lost_place, write_into
from pixelsmith.pixels.output import Output, tiles_of
from pixelsmith.pixels.reading import is_transparent, picture_size, read_picture, read_with_alpha
from pixelsmith.pixels.resample import Resized
from pixelsmith.plan import ModelFacts, Plan, make_plan
from pixelsmith.preview import with_preview
from pixelsmith.request import EMBEDDED, Request
from pixelsmith.room import check_disk, check_memory
from pixelsmith.run import Identity, Record, RunDirectory
from pixelsmith.sampling.readable import Readable
from pixelsmith.stage import Cascade, Rung, batch_size_of
from pixelsmith.version import __version__
from pixelsmith.viewer import open_file


@dataclass(frozen=True)
class Result:
    """A finished picture: its ``plan``, its file and its run directory, where there are such.

    ``pixels`` (height, width, 3) uint8 sRGB, with alpha as a fourth channel where the picture is transparent, are read
    when asked for, from memory, the run directory or the file: of a gigapixel they take 3 GB.
    """

    plan: Plan
    path: Path | None
    run_dir: Path | None
    picture: Readable | None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        picture = self.picture or self._in_file()
        return np.asarray(as_bytes(picture.read(picture.size.window)).permute(1, 2, 0))

    def _in_file(self) -> Readable:
        if self.path is None:
            raise ValueError("a result has a picture or a file")
        if FORMATS[self.path.suffix.lower()].alpha and is_transparent(self.path):
            return read_with_alpha(self.path)
        file = open_file(self.path)
        return Array(
            torch.from_numpy(np.array(file.look((0, 0, file.size.width, file.size.height), file.size))).permute(2, 0, 1)
        )


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
    found = _planned(request, _Model.of(request))
    if not calibrate:
        return found
    model = _Model.of(request, fetched=True)
    known = load_rates(*model.machine) or Rates()
    save_rates(measure_rates(model.load(request), request, known), *model.machine)
    return _planned(request, model)


def generate(
    request: Request,
    output: str | Path | None = None,
    observer: Observer = silent,
    run_dir: str | Path | None = None,
    overwrite: bool = False,
) -> Result:
    """Make the picture and, where ``output`` is given, write it with its settings inside (``FORMATS``).

    Where ``run_dir`` is given, or the canvases are too large for memory, all work is kept in a run directory (beside
    the output: its name and ``.run``), from which ``resume`` goes on after any interruption. One that was not asked
    for is removed at the end. A file that is there already is kept, and the request refused, unless ``overwrite`` is
    set; a link is replaced then, not what it leads to.

    ``observer`` is called with each ``pixelsmith.events.Event``. Raises ``InputError`` before any long work where the
    request, the model, the given picture, the output or the run directory cannot be used, and ``OutputError`` where
    the disk is full, ``DeviceError`` where the device has no memory for one patch or a number leaves its range, and
    ``RefusedError`` where the model's safety checker refuses the base picture.

    Examples:
        >>> from pixelsmith import Method, Request, Size, generate
        >>> result = generate(Request("map of a coast", Size(256, 192), method=Method(steps=2)), "coast.png")
        >>> result.pixels.shape, str(result.pixels.dtype), result.path.name
        ((192, 256, 3), 'uint8', 'coast.png')
    """
    # What a model recommends is part of what was asked for: files and runs keep the numbers.
    found = _Model.of(request)
    request = request.settled(found.facts.recommended)
    # A mistake is told before gigabytes are fetched.
    _planned(request, found)
    name, parts = pin(request.model, request.parts)
    request = replace(request, model=name, parts=parts)
    path = None if output is None else Path(output)
    if path is not None:
        _check_output(path, request, found.settings(request))
    with _held(path, overwrite) as place:
        return _generate(request, path, place, observer, run_dir)


def _check_output(path: Path, request: Request, settings: Mapping[str, Any]) -> None:
    """Whether the file can hold the picture with all that is to be in it. Raises ``PictureError``."""
    check_output(path, request.size, settings, about(request), keeps_alpha(request), request.depth)


def _held(path: Path | None, overwrite: bool) -> AbstractContextManager[Output | None]:
    """The place of the picture, if it goes into a file: from before the work to its end no other process has it."""
    return nullcontext() if path is None else Output(path, overwrite)


def _generate(
    request: Request, path: Path | None, output: Output | None, observer: Observer, run_dir: str | Path | None
) -> Result:
    # A hub id is fetched now: only then is it known how large the model is.
    model = _Model.of(request, fetched=True)
    the_plan = _planned(request, model)
    check_memory(the_plan, request, observer)
    work = _Work(observer)
    job = _Job(request, model, model.settings(request), the_plan, output, work)
    if run_dir is None and not the_plan.on_disk:
        check_disk(the_plan, request.size, None, path, keeps_alpha(request), request.depth)
        return _run(job, MemorySpace())
    if run_dir is None and path is None:
        raise RequestError(f"run directory: a picture of {request.size} needs one; give a run_dir or an output")
    place = Path(f"{path}.run" if run_dir is None else run_dir)
    if not place.name:
        raise RequestError(f"run directory: expected a folder with a name, got {str(run_dir)!r}")
    if path is not None and place.absolute() in (path.absolute(), tiles_of(path).absolute()):
        raise RunError(f"{place}: the picture is to be written there; choose another run directory")
    check_disk(the_plan, request.size, place, path, keeps_alpha(request), request.depth)
    identity, keep = _identity(job.settings, request, model), run_dir is not None
    with RunDirectory.create(place) as run:
        run.begin(Record(identity, Path.cwd(), path, keep))
        try:
            return _run_in(run, job, keep)
        except InputError as error:
            # While nothing was made, what is wrong can be mended and the same command given again.
            if work.began:
                error.add_note(run.advice)
            else:
                run.delete()
            raise


def resume(
    run_dir: str | Path,
    observer: Observer = silent,
    output: str | Path | None = None,
    allow_pickle: bool = False,
    overwrite: bool = False,
) -> Result:
    """Go on with a run that was interrupted, at any moment and in any way; the picture is the same byte for byte.

    A directory can come from somebody else, so what could do harm is asked for again: ``output`` where the picture
    goes elsewhere than into the directory's folder (it may also be another place than before), and ``allow_pickle``.
    A file that is there already is replaced if it is this very picture, another one only with ``overwrite``.

    Raises ``RunError`` where the directory is damaged, another process works in it, or the model, the picture to start
    from, the libraries or this version differ from those that began it; ``OutputError``, ``DeviceError`` and
    ``RefusedError`` as ``generate`` does.
    """
    with RunDirectory.begun_at(Path(run_dir)) as run:
        record = _confirmed(run, None if output is None else Path(output), allow_pickle)
        if difference := record.identity.difference_in_versions():
            raise RunError(f"{run_dir}: it cannot go on here: {difference}")
        request = _located(Request.from_dict(record.identity.settings["request"]), record.folder)
        model = _Model.of(request, fetched=True)
        if difference := record.identity.difference_from(_identity(record.identity.settings, request, model)):
            raise RunError(f"{run_dir}: it cannot go on here: {difference}")
        if record.output is not None:
            _check_output(record.output, request, record.identity.settings)
        the_plan = _planned(request, model)
        check_disk(the_plan, request.size, None, record.output, keeps_alpha(request), request.depth)
        settings = record.identity.settings
        same = record.output is not None and has_settings(record.output, settings)
        with _held(record.output, overwrite or same) as held:
            return _run_in(run, _Job(request, model, settings, the_plan, held, observer), record.keep)


def _confirmed(run: RunDirectory, output: Path | None, allow_pickle: bool) -> Record:
    """What a run directory says, with what its user says again. Raises ``RunError`` for what is not said again."""
    record = run.read()
    if record.allows_pickle and not allow_pickle:
        raise RunError(
            f"{run.path}: its model is read from pickles, which can run any code; --allow-pickle takes them from a "
            "source that you trust"
        )
    if output is not None:
        return replace(record, output=output)
    if record.output is not None and not run.holds(record.output):
        raise RunError(
            f"{run.path}: its picture goes to {record.output}, outside of the directory's folder; give the place that "
            "is right with --output"
        )
    return record


def _located(request: Request, folder: Path) -> Request:
    """The request with the paths in it as they were meant in the folder that it was made in."""
    picture = None if request.from_image is None else str(folder / request.from_image)
    painted = request.method.painted_map
    method = replace(request.method, slider_map=str(folder / painted)) if painted else request.method
    # As everywhere, this name is the model of this package, whatever a folder is called.
    model = request.model if request.model == EMBEDDED else located(request.model, folder)
    parts = request.parts.located(folder)
    mask = None if request.mask is None else str(folder / request.mask)
    return replace(request, from_image=picture, mask=mask, method=method, model=model, parts=parts)


@dataclass(frozen=True)
class _Model:
    """The model of a request as it is found on this disk, and what ``auto`` means for it on this machine."""

    place: Path
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, request: Request, fetched: bool = False) -> _Model:
        """``fetched``: with its weights; else its configuration is enough."""
        name, parts = request.model, request.parts
        check_parts(parts)
        place = fetch(name, parts) if fetched else find_model(name, False, parts)
        check_complete(place, parts, fetched)
        facts, device = read_facts(place, name, parts), choose_device(request.compute.device)
        return cls(place, facts, device, choose_dtype(request.compute.dtype, device, facts.float16_safe))

    @property
    def machine(self) -> tuple[str, str, str]:
        """What rates depend on: the model, of whichever revision, the device, the dtype."""
        return unpinned(self.facts.name), self.device.type, str(self.dtype).removeprefix("torch.")

    def load(self, request: Request) -> Family:
        return load_family(self.place, self.facts, request.compute, request.parts)

    def cascade(self, request: Request, the_plan: Plan, observer: Observer, space: Space) -> Cascade:
        """With the model loaded, and its captioner where places are captioned."""
        family = self.load(request)
        captioner = (
            load_captioner(self.place, request.compute, self.dtype, request.parts) if the_plan.captions else None
        )
        return Cascade.of(request, family, the_plan, observer, space, captioner)

    def settings(self, request: Request) -> dict[str, Any]:
        """What a picture file carries: the request, and what ``auto`` meant on this machine."""
        _, device, dtype = self.machine
        about = {"device": device, "processor": processor_of(self.device), "dtype": dtype}
        return {"pixelsmith": __version__, "request": request.to_dict(), **about}


def settings_of(request: Request) -> dict[str, Any]:
    """What a picture file of this request carries."""
    return _Model.of(request).settings(request)


def settings_when_made(request: Request) -> dict[str, Any]:
    """What the file of this request carries once it is made: nothing is left to the model, hub ids have commits."""
    model = _Model.of(request)
    name, parts = pin(request.model, request.parts)
    return model.settings(replace(request.settled(model.facts.recommended), model=name, parts=parts))


def _planned(request: Request, model: _Model) -> Plan:
    if request.prompt_weighting:
        check_weighting(model.facts, request.prompt, request.negative_prompt)
    for named in request.pictures:
        # One that cannot be read is a mistake to be found now, not when the first stage begins.
        picture_size(named)
    the_plan = make_plan(request, model.facts, _start_size(request), model.dtype.itemsize)
    rates = load_rates(*model.machine)
    method_at = partial(request.method.at, recommended=model.facts.recommended)
    return replace(the_plan, seconds=None if rates is None else seconds_of(the_plan, method_at, rates))


def _identity(settings: Mapping[str, Any], request: Request, model: _Model) -> Identity:
    """Of a run with these settings; ``request`` is where its files are."""
    made, here = (
        " ".join(str(values.get(name)) for name in ("device", "processor", "dtype"))
        for values in (settings, model.settings(request))
    )
    if made != here:
        raise RunError(f"device: the run was made on {made}, here is {here}")
    files = model_files(model.place, request.parts)
    return Identity.of(settings, batch_size_of(request, model.device, model.facts.patch), files, request.pictures)


@dataclass
class _Work:
    """An observer that knows whether patches have been denoised, and tells another one everything."""

    observer: Observer
    began: bool = False

    def __call__(self, event: Event) -> None:
        self.began |= isinstance(event, Progress) and event.phase == "denoise"
        self.observer(event)


@dataclass(frozen=True)
class _Job:
    """What is to be made; ``settings`` are those that the file carries."""

    request: Request
    model: _Model
    settings: Mapping[str, Any]
    plan: Plan
    output: Output | None
    observer: Observer

    @property
    def path(self) -> Path | None:
        return None if self.output is None else self.output.path


def _run_in(run: RunDirectory, job: _Job, keep: bool) -> Result:
    space = run.space()
    try:
        result = _run(replace(job, observer=with_preview(job.observer, run.path)), space, run.path)
    except RefusedError:
        # It would be refused again, however often the run goes on.
        space.close()
        run.delete()
        raise
    if keep or job.path is None:
        run.finish()
        return result
    space.close()
    run.delete()
    return replace(result, picture=None, run_dir=None)


def _run(job: _Job, space: Space, run_dir: Path | None = None) -> Result:
    request, model, began = job.request, job.model, time.monotonic()
    method_at = partial(request.method.at, recommended=model.facts.recommended)
    forecast = Forecast(job.plan, method_at, load_rates(*model.machine))

    def observer(event: Event) -> None:
        forecast(event)
        if isinstance(event, Progress):
            event = replace(event, share=forecast.share, seconds_left=forecast.seconds_left)
        job.observer(event)

    given = Given.of(request)
    if painted := request.method.painted_map:
        # All of it is read, as of the start picture: damage is reported before the model is loaded.
        read_picture(Path(painted))
    said = about(request, [stage.size for stage in job.plan.stages])
    observer(RunStarted(job.plan, None if run_dir is None else str(run_dir)))
    if job.path is not None and (remark := lost_place(said, job.path)):
        observer(Warned(remark))
    with torch.inference_mode():
        # The model is held by nothing else: it is gone before the picture is written.
        picture = _climb(model.cascade(request, job.plan, observer, space), job.plan, given)
    if job.output is not None:
        write_began = time.monotonic()
        give_back_memory()
        last = len(job.plan.stages)
        write_into(
            job.output,
            picture,
            job.settings,
            lambda done, total: observer(Progress(last, "write", 1, 1, done, total)),
            said,
            Depth(request.depth, request.dither),
        )
        observer(PhaseFinished(last, "write", time.monotonic() - write_began))
    if forecast.known and (job.plan.base is None or job.plan.base.patches_per_step == 1):
        # A whole canvas at once says nothing of what a patch takes.
        save_rates(forecast.rates, *model.machine)
    observer(RunFinished(None if job.path is None else str(job.path), time.monotonic() - began))
    return Result(job.plan, job.path, run_dir, picture)


def _climb(cascade: Cascade, the_plan: Plan, given: Given | None) -> Readable:
    """From a given picture or the model's own, through all stages to a picture of exactly the size."""
    sizes, target = [stage.size for stage in the_plan.stages], cascade.request.size
    rung = Rung(given.picture, None) if given else _base(cascade, the_plan)
    for number, size in enumerate(sizes, start=1):
        cascade.observer(StageStarted(number, len(sizes), size))
        rung = cascade.stage(number, rung, size)
        if given:
            # The next stage sees it so, too.
            rung = replace(rung, picture=given.kept(rung.picture, sizes[:number]))
    picture = rung.picture
    if picture.size != target:
        picture = Resized(picture, picture.size, target, "lanczos")
    return given.transparent(picture, [*sizes, target]) if given else picture


def _base(cascade: Cascade, the_plan: Plan) -> Rung:
    if the_plan.base is None:
        raise ValueError("a plan without a base needs a picture to start from")
    cascade.observer(StageStarted(0, len(the_plan.stages), the_plan.base.size))
    return cascade.base(the_plan.base.size)


def _start_size(request: Request) -> Size | None:
    return None if request.from_image is None else picture_size(Path(request.from_image))
