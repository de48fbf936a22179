"""A model that is loaded once and makes any number of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.canvas import MemorySpace, Space
from pixelsmith.config.checks import check_range
from pixelsmith.config.compute import Compute, Placement
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import EMBEDDED, Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine import executor_for
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.engine.inputs import Rung
from pixelsmith.engine.stage import Cascade, batch_size_of
from pixelsmith.errors import RequestError, RunError
from pixelsmith.events import Event, Observer, Warned, silent
from pixelsmith.families import Captioner, Family, load_captioner, load_family, pin
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.depth import as_bytes
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.reading import is_transparent, read_picture
from pixelsmith.pixels.settings_inside import has_settings, settings_inside
from pixelsmith.planning.forecast import Rates, load_rates, save_rates
from pixelsmith.run.calibrate import measure_rates
from pixelsmith.run.closeup import MOST_SURROUNDINGS, SURROUNDINGS, Closeup, close_up, finished_below, place_at
from pixelsmith.run.found import FoundModel
from pixelsmith.run.job import Job, Result, base_of, check_file, given_of
from pixelsmith.run.redone import Place, Redone, redo
from pixelsmith.run.resuming import Resumed, resumed
from pixelsmith.run.room import check_disk, check_memory
from pixelsmith.system.memory import give_back_memory
from pixelsmith.system.repeatable import changed, deterministic_algorithms, software_of
from pixelsmith.workers.fleet import Fleet, check_workers, team_here
from pixelsmith.workers.model_transfer import ModelFiles


def load(
    model: str = EMBEDDED, parts: Parts | None = None, compute: Compute | None = None, workers: Workers | None = None
) -> LoadedModel:
    """Load a model onto its device to make several pictures; use it in a ``with`` statement, which frees it.

    ``model``, ``parts`` and ``compute`` are as in a ``Request``; ``workers``: the devices that share the work, each of
    which loads the model. Raises ``ModelError`` if the model cannot be found, read or used, and ``RequestError`` if the
    device is not available or has too little memory.
    """
    loaded = LoadedModel(model, parts or Parts(), compute or Compute(), workers=workers)
    loaded.load()
    return loaded


class LoadedModel:
    """A model that makes pictures, as returned by ``load``. It is not thread-safe.

    It is loaded on first use and kept until ``close``; with ``once`` it is freed as soon as a picture is decoded,
    before the file is written. With ``memory="encoders-released"`` it is reloaded for each picture, because its text
    encoders have been freed.
    """

    def __init__(
        self, model: str, parts: Parts, compute: Compute, once: bool = False, workers: Workers | None = None
    ) -> None:
        if workers is not None:
            check_workers(workers, compute)
            if parts.controlnets:
                raise RequestError("control: several devices cannot share it yet; leave out --devices and --ray")
        self._workers, self._fleet = workers, None if workers is None else Fleet(workers)
        self._known = _Known(model, parts, compute)
        self._once = once or compute.memory == "encoders-released"
        self._pinned: _Known | None = None
        self._fetched: FoundModel | None = None
        self._family: Family | None = None
        self._captioner: Captioner | None = None

    @classmethod
    def of(cls, request: Request, once: bool = False, workers: Workers | None = None) -> LoadedModel:
        """The model that a request names."""
        return cls(request.model, request.parts, request.compute, once, workers)

    @property
    def facts(self) -> ModelFacts:
        """Facts of the model: its native size, its channels, its recommended settings."""
        return self._found.facts

    def request(self, prompt: str, size: Size, **values: Any) -> Request:
        """Create a request for this model; ``values`` are further fields of it. Raises ``RequestError``."""
        known = self._known
        own: dict[str, Any] = {"model": known.name, "parts": known.parts, "compute": known.compute}
        return Request(prompt, size, **own | values)

    def plan(self, request: Request, calibrate: bool = False) -> Plan:
        """Plan a request, as ``pixelsmith.plan`` does; ``calibrate`` measures the model for some seconds."""
        self._check(request)
        the_plan = self._planned_by.plan(request)
        if not calibrate:
            return the_plan
        family, found = self.load(), self._fetch()
        if self._fleet is not None:
            self._fleet.calibrate(request)
            self._fetched = self._with_team(found)
            return self._fetched.plan(request)
        known = load_rates(*found.machine) or Rates()
        save_rates(measure_rates(family, request, known), *found.machine)
        return found.plan(request)

    def generate(
        self,
        request: Request,
        output: str | Path | None = None,
        observer: Observer = silent,
        run_dir: str | Path | None = None,
        overwrite: bool = False,
        cancel: CancelToken | None = None,
    ) -> Result:
        """Make a picture, as ``pixelsmith.generate`` does, with the same arguments and errors.

        Raises ``RequestError`` if the request names another model, other parts or other ``compute`` settings.
        """
        self._check(request)
        # Files and runs record the recommended settings, not that they were left open.
        request = request.settled(self.facts.recommended)
        # A mistake fails before gigabytes are fetched.
        self._found.plan(request)
        pinned = self._pin()
        request = replace(request, model=pinned.name, parts=pinned.parts)
        path = None if output is None else Path(output)
        if path is not None:
            check_file(path, request, self._found.settings(request))
        with _held(path, overwrite) as place:
            # A hub id is fetched now: only then is it known how large the model is.
            model = self._fetch()
            the_plan = model.plan(request)
            check_memory(the_plan, request, observer)
            settings = model.settings(request)
            job = Job(request, the_plan, model, self._cascade, settings, place, observer, cancel or CancelToken())
            return job.begin(run_dir)

    def resume(
        self,
        run_dir: str | Path,
        observer: Observer = silent,
        output: str | Path | None = None,
        overwrite: bool = False,
        cancel: CancelToken | None = None,
    ) -> Result:
        """Continue a run of this model, as ``pixelsmith.resume`` does, with the same errors.

        It continues with the ``compute`` settings of this model: ``memory`` may differ from that of the run.
        """
        compute = self._known.compute
        placement = Placement(memory=compute.memory, tile=compute.tile, workers=self._workers)
        allow_pickle = self._known.parts.allow_pickle
        with resumed(Path(run_dir), None if output is None else Path(output), allow_pickle, placement) as there:
            # Runs keep what was found: commits of hub ids, and whether there is a variant for few steps.
            self._pin()
            if not self._is_for(there.request):
                raise RunError(
                    f"{run_dir}: it was begun with the model {there.request.model!r} and parts of its own, here is "
                    f"{self._known.name!r}"
                )
            return self.go_on(there, observer, overwrite, cancel)

    def base(
        self, request: Request, observer: Observer = silent, cancel: CancelToken | None = None
    ) -> NDArray[np.uint8]:
        """Make only the base picture of a request, (h, w, 3) uint8 sRGB, which its cascade starts from.

        Bases of several seeds are sketches to choose from: ``generate`` starts from the same one. Raises as
        ``generate`` does, and ``RequestError`` if the request starts from a given picture.
        """
        self._check(request)
        request = request.settled(self.facts.recommended)
        the_plan = self._fetch().plan(request)
        if the_plan.base is None:
            raise RequestError("base: the request starts from a given picture, so it has no base; leave out from_image")
        observe = _ended_by(cancel or CancelToken(), observer)
        with torch.inference_mode(), self._cascade(request, the_plan, observe, MemorySpace()) as cascade:
            picture = base_of(cascade, the_plan).picture
            return np.asarray(as_bytes(picture.read(picture.size.window)).permute(1, 2, 0))

    def preview(
        self,
        request: Request,
        at: Sequence[float] = (0.5, 0.5),
        sliders: Sequence[float] = (),
        side: int | None = None,
        observer: Observer = silent,
        run_dir: str | Path | None = None,
        cancel: CancelToken | None = None,
        surroundings: float = SURROUNDINGS,
    ) -> Closeup:
        """Make the final pixels of one window, at several positions of the Slider, without the rest of the picture.

        - ``at``: the centre of the window as shares of width and height, 0..1; ``side``: its side in pixels, by default
          the model's native size.
        - ``sliders``: positions of the Slider, each for all stages; by default that of the request.
        - ``run_dir``: a run of this request, whose finished pictures are used for the lower stages.
        - ``surroundings``: at least 0: the margin around the window, in sides of a patch, that is computed with it;
          less is faster and less exact.

        The pixels equal those of the whole picture up to small differences at the margin
        (docs/decisions/0029-closeups.md). Raises as ``generate`` does, and ``RequestError`` if the request has no
        stages or its strategy needs whole canvases.
        """
        self._check(request)
        check_range("surroundings", surroundings, 0, MOST_SURROUNDINGS)
        request = request.settled(self.facts.recommended)
        the_plan, facts = self._fetch().plan(request), self.facts
        window = place_at(at, side or max(facts.native_size.width, facts.native_size.height), request.size)
        if not the_plan.stages:
            raise RequestError("preview: the picture has no stages, so there is nothing to preview; use generate")
        last, given = len(the_plan.stages), given_of(request)
        done, start = (0, None) if run_dir is None else finished_below(Path(run_dir), last)
        observe = _ended_by(cancel or CancelToken(), observer)

        def made(own: Request) -> NDArray[np.uint8]:
            nonlocal start
            with torch.inference_mode(), self._cascade(own, the_plan, observe, MemorySpace()) as cascade:
                # The base is the same at all positions.
                if start is None:
                    start = Rung(given.picture, None) if given else base_of(cascade, the_plan)
                return close_up(cascade, the_plan, window, start, done, given, surroundings)

        requests = [request.with_method(slider=slider) for slider in sliders] or [request]
        chosen = tuple(own.method.at(last, facts.recommended, last).slider for own in requests)
        place = f"{window.width}x{window.height}+{window.left}+{window.top}"
        settings = self._found.settings(request) | {"preview": {"window": place, "sliders": list(chosen)}}
        return Closeup(window, chosen, tuple(map(made, requests)), settings)

    def redo(
        self,
        request: Request,
        picture: str | Path,
        region: Window | None = None,
        mask: str | Path | None = None,
        observer: Observer = silent,
        cancel: CancelToken | None = None,
    ) -> Redone:
        """Make part of a finished picture again, with the prompt, seed and method of a request for its size.

        - ``picture``: a file with 8 bits per channel and no transparency; its pixels outside the part do not change.
        - ``region``: a rectangle in its pixels; or ``mask``: a grey picture with its aspect ratio, white is made again.

        The new part is blended into the old picture over ``pixelsmith.run.redone.FEATHER`` pixels inside its edges.
        Raises as ``generate`` does, and ``RequestError`` if the part lies outside the picture.
        """
        self._check(request)
        path, request = Path(picture), replace(request, from_image=None, mask=None)
        old = read_picture(path)
        if is_transparent(path) or old.size != request.size:
            raise RequestError(f"{path}: expected a picture of {request.size} without transparency, got {old.size}")
        wrap = request.wrapped_axes
        if region is not None and mask is None:
            place = Place.of_region(region, old.size, wrap)
        elif mask is not None and region is None:
            place = Place.of_mask(read_picture(Path(mask)), old.size, wrap)
        else:
            raise RequestError("redo: expected a region or a mask")
        request = request.settled(self.facts.recommended)
        the_plan = self._fetch().plan(request)
        observe = _ended_by(cancel or CancelToken(), observer)
        with torch.inference_mode(), self._cascade(request, the_plan, observe, MemorySpace()) as cascade:
            made = redo(cascade, the_plan, old, place, SURROUNDINGS)
        about = self._found.settings(request)
        before = settings_inside(path) or about
        at, method = place.window, request.method.at(len(the_plan.stages), self.facts.recommended, len(the_plan.stages))
        step = {"window": f"{at.width}x{at.height}+{at.left}+{at.top}", "prompt": request.prompt, "seed": request.seed}
        history = [*before.get("redone", []), step | {"slider": method.slider}]
        return Redone(made, place.window, {**before, "redone": history})

    def go_on(self, there: Resumed, observer: Observer, overwrite: bool, cancel: CancelToken | None = None) -> Result:
        """Continue the run of an open run directory."""
        request, record, run_dir = there.request, there.record, there.run.path
        model = self._fetch()
        if difference := record.identity.difference_from(there.identity(model)):
            raise RunError(f"{run_dir}: it cannot go on here: {difference}")
        if not there.moved and (others := changed(record.software, software_of(model.device))):
            observer(Warned(f"since this run began {others}: what is made now may differ by rounding"))
        settings = record.identity.settings
        if record.output is not None:
            check_file(record.output, request, settings)
        the_plan = model.plan(request)
        check_disk(the_plan, request, None, record.output)
        same = record.output is not None and has_settings(record.output, settings)
        with _held(record.output, overwrite or same) as held:
            job = Job(request, the_plan, model, self._cascade, settings, held, observer, cancel or CancelToken())
            return job.go_on(there.run, record.keep)

    def load(self) -> Family:
        """Load the model onto its device, unless it is loaded. Raises as ``pixelsmith.load`` does."""
        if self._family is None:
            found = self._fetch()
            if self._fleet is None or found.team is None:
                self._family = load_family(found.place, found.facts, self._known.compute, found.parts)
            else:
                compute = replace(self._known.compute, dtype=found.team.dtype)
                self._family = self._fleet.load(ModelFiles(found.name, found.place, found.parts), compute, found.facts)
        return self._family

    def close(self) -> None:
        """Free the model and end the workers. The model is reloaded on its next use."""
        if self._fleet is not None:
            self._fleet.close()
        if self._family is not None or self._captioner is not None:
            self._family = self._captioner = None
            give_back_memory()
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _cascade(self, request: Request, the_plan: Plan, observer: Observer, space: Space) -> Iterator[Cascade]:
        """The cascade of a request with this model, and its captioner if the plan has captions."""
        # No local variable refers to the yielded cascade, so that with ``once`` the model is freed when this ends.
        try:
            captioner = self._load_captioner() if the_plan.captions else None
            on_split, found = partial(_warn_of_split, observer), self._fetch()
            with deterministic_algorithms(request.compute.deterministic):
                if self._fleet is None:
                    with executor_for(found.device, on_split) as executor:
                        yield Cascade.of(request, self.load(), the_plan, observer, space, captioner, executor)
                    return
                # The batch size follows from the workers' devices: the run itself computes nothing.
                request = request.with_batch_size(batch_size_of(request, found.device, found.facts.patch))
                with self._fleet.executor(on_split, observer) as (executor, observed):
                    yield Cascade.of(request, self.load(), the_plan, observed, space, captioner, executor)
        finally:
            if self._once:
                self.close()

    def _load_captioner(self) -> Captioner:
        if self._captioner is None:
            found = self._fetch()
            self._captioner = load_captioner(found.place, self._known.compute, found.dtype, found.parts)
        return self._captioner

    @property
    def _found(self) -> FoundModel:
        """The model as found on disk, without weights if they are not fetched yet."""
        return self._fetched or self._known.found

    @property
    def _planned_by(self) -> FoundModel:
        """The same with its workers. Those of this machine need not be started for it."""
        if self._workers is None or self._fetched is not None:
            return self._found
        if self._workers.ray is not None:
            return self._with_team(self._found)
        return self._found.with_team(team_here(self._workers, self._found.facts, self._known.compute))

    def _with_team(self, found: FoundModel) -> FoundModel:
        return found if self._fleet is None else found.with_team(self._fleet.team(found.facts, self._known.compute))

    def _pin(self) -> _Known:
        """The model with hub ids pinned to commits, so that later runs find the same files."""
        if self._pinned is None:
            name, parts = pin(self._known.name, self._known.parts)
            self._pinned = _Known(name, parts, self._known.compute)
        return self._pinned

    def _fetch(self) -> FoundModel:
        """The model with its weights, which are fetched if needed."""
        if self._fetched is None:
            pinned = self._pin()
            found = FoundModel.of(pinned.name, pinned.parts, pinned.compute, fetched=True)
            self._fetched = self._with_team(found)
        return self._fetched

    def makes(self, request: Request) -> bool:
        """Whether the request has this model, its parts and its ``compute`` settings."""
        return self._is_for(request) and self._computes(request)

    def serving(self, request: Request) -> LoadedModel:
        """This model if it can make the request; otherwise another one that can, and this one is freed."""
        if self.makes(request):
            return self
        self.close()
        return LoadedModel.of(request, workers=self._workers)

    def _is_for(self, request: Request) -> bool:
        known = [self._known, *([self._pinned] if self._pinned else [])]
        return any((request.model, request.parts) == (own.name, own.parts) for own in known)

    def _computes(self, request: Request) -> bool:
        own = self._known.compute
        loaded = replace(own, batch_size=None, tile=None, deterministic=False)
        return replace(request.compute, batch_size=None, tile=None, deterministic=False) == loaded

    def _check(self, request: Request) -> None:
        own = self._known
        if not self._is_for(request):
            raise RequestError(
                f"model: the request is for {request.model!r} and its parts, but {own.name!r} is loaded; create "
                "requests with the loaded model's request(), or load the other model"
            )
        if not self._computes(request):
            raise RequestError(f"compute: the model was loaded with {own.compute}, the request has {request.compute}")


@dataclass(frozen=True)
class _Known:
    """The name, parts and ``compute`` settings of a model."""

    name: str
    parts: Parts
    compute: Compute

    @cached_property
    def found(self) -> FoundModel:
        """The model without its weights."""
        return FoundModel.of(self.name, self.parts, self.compute)


def _ended_by(token: CancelToken, observer: Observer) -> Observer:
    """An observer that also raises ``CancelledError`` once its token is cancelled."""

    def observe(event: Event) -> None:
        token.check()
        observer(event)

    return observe


def _warn_of_split(observer: Observer, kind: str, most: int) -> None:
    observer(Warned(f"the device has no memory for so many patches at once; going on with {most}"))


def _held(path: Path | None, overwrite: bool) -> AbstractContextManager[Output | None]:
    """The output file, if there is one, locked against other processes for the whole run."""
    return nullcontext() if path is None else Output(path, overwrite)
