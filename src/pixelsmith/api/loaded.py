"""A model that is loaded once and makes any number of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsmith.api.lifecycle import Lifecycle, ModelChoice
from pixelsmith.canvas import MemorySpace
from pixelsmith.config.checks import check_range
from pixelsmith.config.compute import Compute, Placement
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import EMBEDDED, Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine.cancel import CancelToken
from pixelsmith.engine.inputs import Rung
from pixelsmith.errors import RequestError, RunError
from pixelsmith.events import Event, Observer, Warned, silent
from pixelsmith.families import Family
from pixelsmith.geometry import Size, Window
from pixelsmith.pixels.depth import as_bytes
from pixelsmith.pixels.output import Output
from pixelsmith.pixels.reading import header, is_transparent, read_picture
from pixelsmith.pixels.settings_inside import has_settings, settings_inside
from pixelsmith.run.closeup import (
    MOST_SURROUNDINGS,
    SURROUNDINGS,
    Closeup,
    close_up,
    finished_below,
    place_at,
    with_shares,
)
from pixelsmith.run.given import cut_off
from pixelsmith.run.job import Job, Result, base_of, check_file, given_of
from pixelsmith.run.redone import Place, Redone, redo
from pixelsmith.run.resuming import Resumed, check_same_picture, resumed
from pixelsmith.run.room import check_disk, check_memory
from pixelsmith.system.repeatable import changed, software_of

_EIGHT_BITS: dict[str, Any] = {"depth": 8, "dither": False, "profile": "srgb"}
"""How previews and redone pictures are stored, whatever the request says of its own file."""


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
        self._model = Lifecycle(ModelChoice(model, parts, compute), once, workers)

    @classmethod
    def of(cls, request: Request, once: bool = False, workers: Workers | None = None) -> LoadedModel:
        """The model that a request names."""
        return cls(request.model, request.parts, request.compute, once, workers)

    @property
    def facts(self) -> ModelFacts:
        """Facts of the model: its native size, its channels, its recommended settings."""
        return self._model.found.facts

    def request(self, prompt: str, size: Size, **values: Any) -> Request:
        """Create a request for this model; ``values`` are further fields of it. Raises ``RequestError``."""
        known = self._model.chosen
        own: dict[str, Any] = {"model": known.name, "parts": known.parts, "compute": known.compute}
        return Request(prompt, size, **own | values)

    def plan(self, request: Request, calibrate: bool = False) -> Plan:
        """Plan a request, as ``pixelsmith.plan`` does; ``calibrate`` measures the model for some seconds."""
        self._model.check(request)
        if calibrate:
            # A mistake fails before anything is loaded.
            self._model.planned_by.plan(request)
            self._model.calibrate(request)
        return self._model.planned_by.plan(request)

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
        self._model.check(request)
        # Files and runs record the recommended settings, not that they were left open.
        request = request.settled(self.facts.recommended)
        # A mistake fails before gigabytes are fetched.
        self._model.found.plan(request)
        pinned = self._model.pin()
        request = replace(request, model=pinned.name, parts=pinned.parts)
        path = None if output is None else Path(output)
        if path is not None:
            check_file(path, request, self._model.found.settings(request))
        with _held(path, overwrite) as place:
            # A hub id is fetched now: only then is it known how large the model is.
            model = self._model.fetch()
            the_plan = model.plan(request)
            check_memory(the_plan, model, request, observer)
            settings = model.settings(request)
            job = Job(request, the_plan, model, self._model.cascade, settings, place, observer, cancel or CancelToken())
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

        It continues with the memory mode, the tile and the attention backend of this model.
        """
        compute = self._model.chosen.compute
        placement = Placement(
            memory=compute.memory, tile=compute.tile, attention=compute.attention, workers=self._model.workers
        )
        allow_pickle = self._model.chosen.parts.allow_pickle
        with resumed(Path(run_dir), None if output is None else Path(output), allow_pickle, placement) as there:
            # Runs keep what was found: commits of hub ids, and whether there is a variant for few steps.
            self._model.pin()
            if not self._model.is_for(there.request):
                raise RunError(
                    f"{run_dir}: it was begun with the model {there.request.model!r} and parts of its own, here is "
                    f"{self._model.chosen.name!r}"
                )
            return self.go_on(there, observer, overwrite, cancel)

    def base(
        self, request: Request, observer: Observer = silent, cancel: CancelToken | None = None
    ) -> NDArray[np.uint8]:
        """Make only the base picture of a request, (h, w, 3) uint8 sRGB, which its cascade starts from.

        Bases of several seeds are sketches to choose from: ``generate`` starts from the same one. Raises as
        ``generate`` does, and ``RequestError`` if the request starts from a given picture.
        """
        self._model.check(request)
        request = request.settled(self.facts.recommended)
        the_plan = self._model.fetch().plan(request)
        if the_plan.base is None:
            raise RequestError("base: the request starts from a given picture, so it has no base; leave out from_image")
        observe = _ended_by(cancel or CancelToken(), observer)
        with torch.inference_mode(), self._model.cascade(request, the_plan, observe, MemorySpace()) as cascade:
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
        - ``run_dir``: a run of this request with any Slider, whose finished pictures are used for the lower stages.
        - ``surroundings``: at least 0: the margin around the window, in sides of a patch, that is computed with it;
          less is faster and less exact.

        The pixels equal those of the whole picture up to small differences at the margin
        (docs/decisions/0029-closeups.md). Raises as ``generate`` does, ``RequestError`` if the request has no stages or
        its strategy needs whole canvases, and ``RunError`` if ``run_dir`` is of another request.
        """
        self._model.check(request)
        check_range("surroundings", surroundings, 0, MOST_SURROUNDINGS)
        request = request.settled(self.facts.recommended)
        the_plan, facts = self._model.fetch().plan(request), self.facts
        window = place_at(at, side or max(facts.native_size.width, facts.native_size.height), request.size)
        if not the_plan.stages:
            raise RequestError("preview: the picture has no stages, so there is nothing to preview; use generate")
        last, given = len(the_plan.stages), given_of(request)
        if run_dir is not None:
            pinned = self._model.pin()
            check_same_picture(Path(run_dir), replace(request, model=pinned.name, parts=pinned.parts))
        done, start = (0, None) if run_dir is None else finished_below(Path(run_dir), last)
        requests = [request.with_method(slider=slider) for slider in sliders] or [request]
        denoised = (start is None and given is None) + len(requests) * (last - done)
        observe = _ended_by(cancel or CancelToken(), with_shares(observer, denoised))
        if remark := cut_off(request):
            observe(Warned(remark))

        def made(own: Request) -> NDArray[np.uint8]:
            nonlocal start
            with torch.inference_mode(), self._model.cascade(own, the_plan, observe, MemorySpace()) as cascade:
                # The base is the same at all positions.
                if start is None:
                    start = Rung(given.picture, None) if given else base_of(cascade, the_plan)
                return close_up(cascade, the_plan, window, start, done, given, surroundings)

        chosen = tuple(own.method.at(last, facts.recommended, last).slider for own in requests)
        place = f"{window.width}x{window.height}+{window.left}+{window.top}"
        settings = self._model.found.settings(replace(request, **_EIGHT_BITS)) | {
            "preview": {"window": place, "sliders": list(chosen)}
        }
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
        self._model.check(request)
        path, request = Path(picture), replace(request, from_image=None, mask=None)
        if (stored := header(path).format) != "uchar":
            raise RequestError(f"{path}: expected a picture with 8 bits per channel, got {stored}")
        old = read_picture(path)
        if is_transparent(path):
            raise RequestError(f"{path}: expected a picture without transparency")
        if old.size != request.size:
            raise RequestError(f"{path}: expected a picture of {request.size}, got {old.size}")
        wrap = request.wrapped_axes
        if region is not None and mask is None:
            place = Place.of_region(region, old.size, wrap)
        elif mask is not None and region is None:
            place = Place.of_mask(read_picture(Path(mask)), old.size, wrap)
        else:
            raise RequestError("redo: expected a region or a mask")
        request = request.settled(self.facts.recommended)
        the_plan = self._model.fetch().plan(request)
        observe = _ended_by(cancel or CancelToken(), with_shares(observer, 1))
        with torch.inference_mode(), self._model.cascade(request, the_plan, observe, MemorySpace()) as cascade:
            made = redo(cascade, the_plan, old, place)
        before = settings_inside(path) or self._model.found.settings(request)
        at, method = place.window, request.method.at(len(the_plan.stages), self.facts.recommended, len(the_plan.stages))
        step = {"window": f"{at.width}x{at.height}+{at.left}+{at.top}", "prompt": request.prompt, "seed": request.seed}
        history = [*before.get("redone", []), step | {"slider": method.slider}]
        settings = {**before, "request": {**before["request"], **_EIGHT_BITS}, "redone": history}
        return Redone(made, place.window, settings)

    def go_on(self, there: Resumed, observer: Observer, overwrite: bool, cancel: CancelToken | None = None) -> Result:
        """Continue the run of an open run directory."""
        request, record, run_dir = there.request, there.record, there.run.path
        model = self._model.fetch()
        if difference := record.identity.difference_from(there.identity(model)):
            raise RunError(f"{run_dir}: it cannot go on here: {difference}")
        if not there.moved and (others := changed(record.software, software_of(model.device))):
            observer(Warned(f"since this run began {others}: what is made now may differ by rounding"))
        settings = record.identity.settings
        if record.output is not None:
            check_file(record.output, request, settings)
        the_plan = model.plan(request)
        check_memory(the_plan, model, request, observer)
        check_disk(the_plan, request, None, record.output)
        same = record.output is not None and has_settings(record.output, settings)
        with _held(record.output, overwrite or same) as held:
            job = Job(request, the_plan, model, self._model.cascade, settings, held, observer, cancel or CancelToken())
            return job.go_on(there.run, record.keep)

    def load(self) -> Family:
        """Load the model onto its device, unless it is loaded. Raises as ``pixelsmith.load`` does."""
        return self._model.load()

    def close(self) -> None:
        """Free the model and end the workers. The model is reloaded on its next use."""
        self._model.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def makes(self, request: Request) -> bool:
        """Whether the request has this model, its parts and its ``compute`` settings."""
        return self._model.is_for(request) and self._model.computes(request)

    def serving(self, request: Request) -> LoadedModel:
        """This model if it can make the request; otherwise another one that can, and this one is freed."""
        if self.makes(request):
            return self
        self.close()
        return LoadedModel.of(request, workers=self._model.workers)


def _ended_by(token: CancelToken, observer: Observer) -> Observer:
    """An observer that also raises ``CancelledError`` once its token is cancelled."""

    def observe(event: Event) -> None:
        token.check()
        observer(event)

    return observe


def _held(path: Path | None, overwrite: bool) -> AbstractContextManager[Output | None]:
    """The output file, if there is one, locked against other processes for the whole run."""
    return nullcontext() if path is None else Output(path, overwrite)
