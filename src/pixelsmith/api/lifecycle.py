"""A model from its name to its weights on devices: found, pinned to commits, fetched, loaded and freed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch

from pixelsmith.canvas import Space
from pixelsmith.config.compute import Compute
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine import Executor, executor_for
from pixelsmith.engine.stage import Cascade, batch_size_of
from pixelsmith.errors import RequestError
from pixelsmith.events import Observer, Warned, delivered_here
from pixelsmith.families import Captioner, Family, Upsampler, load_captioner, load_family, load_upsampler, pin
from pixelsmith.planning.forecast import Rates, load_rates, save_rates
from pixelsmith.run.calibrate import measure_rates
from pixelsmith.run.found import FoundModel
from pixelsmith.system.memory import give_back_memory
from pixelsmith.system.repeatable import deterministic_algorithms
from pixelsmith.workers.fleet import Fleet, check_workers, team_here
from pixelsmith.workers.model_transfer import ModelFiles


@dataclass(frozen=True)
class ModelChoice:
    """The name of a model, its parts, and the settings with which it computes."""

    name: str
    parts: Parts
    compute: Compute

    @cached_property
    def found(self) -> FoundModel:
        """The model on this disk, perhaps without its weights."""
        return FoundModel.of(self.name, self.parts, self.compute)


class Lifecycle:
    """Loads a model, its captioner and its upsampler on first use and frees them on ``close``.

    With ``once`` they are freed as soon as a cascade ends. With ``workers`` the model is loaded by each of these, and
    the main process computes nothing. Raises ``RequestError`` if the workers cannot be used with these settings.
    """

    def __init__(self, chosen: ModelChoice, once: bool = False, workers: Workers | None = None) -> None:
        if workers is not None:
            check_workers(workers, chosen.compute)
        self.chosen, self.workers = chosen, workers
        self.fleet = None if workers is None else Fleet(workers)
        self._once = once or chosen.compute.memory == "encoders-released"
        self._pinned: ModelChoice | None = None
        self._fetched: FoundModel | None = None
        self._family: Family | None = None
        self._captioner: Captioner | None = None
        self._upsampler: Upsampler | None = None

    @property
    def found(self) -> FoundModel:
        """The model as found on disk, without weights if they are not fetched yet."""
        return self._fetched or self.chosen.found

    @property
    def planned_by(self) -> FoundModel:
        """The model together with its workers. Those of this machine are not started for it."""
        if self.workers is None or self._fetched is not None:
            return self.found
        if self.workers.ray is not None:
            return self._with_team(self.found)
        return self.found.with_team(team_here(self.workers, self.found, self.chosen.compute))

    def pin(self) -> ModelChoice:
        """The model with hub ids pinned to commits, so that later runs find the same files."""
        if self._pinned is None:
            name, parts = pin(self.chosen.name, self.chosen.parts)
            self._pinned = ModelChoice(name, parts, self.chosen.compute)
        return self._pinned

    def fetch(self) -> FoundModel:
        """The model with its weights, which are fetched if needed."""
        if self._fetched is None:
            pinned = self.pin()
            found = FoundModel.of(pinned.name, pinned.parts, pinned.compute, fetched=True)
            self._fetched = self._with_team(found)
        return self._fetched

    def load(self) -> Family:
        """The model on its device, or on its workers."""
        if self._family is None:
            found = self.fetch()
            if self.fleet is None or found.team is None:
                self._family = load_family(found.place, found.facts, self.chosen.compute, found.parts)
            else:
                compute = replace(self.chosen.compute, dtype=found.team.dtype)
                self._family = self.fleet.load(ModelFiles(found.name, found.place, found.parts), compute, found.facts)
        return self._family

    def hold(self, family: Family, found: FoundModel) -> None:
        """Use a model that is in memory already."""
        self._family, self._fetched, self._pinned = family, found, self.chosen

    def close(self) -> None:
        """Free the model and end the workers. The model is loaded again on its next use."""
        if self.fleet is not None:
            self.fleet.close()
        if (self._family, self._captioner, self._upsampler) != (None, None, None):
            self._family = self._captioner = self._upsampler = None
            give_back_memory()
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()

    def calibrate(self, request: Request) -> None:
        """Measure for some seconds how fast the devices compute, and remember the rates for later plans."""
        family, found = self.load(), self.fetch()
        known = load_rates(*found.machine) or Rates()
        if self.fleet is None:
            measured = measure_rates(family, request, known, self._load_upsampler(found.plan(request)))
        else:
            measured = self.fleet.calibrate(request, known)
        save_rates(measured, *found.machine)

    @contextmanager
    def cascade(self, request: Request, the_plan: Plan, observer: Observer, space: Space) -> Iterator[Cascade]:
        """The cascade of a request with this model, with its captioner if the plan has captions and its upsampler.

        ``observer`` is called by this thread alone, although executors read in other threads.
        """
        # No local variable refers to the yielded cascade, so that with ``once`` the model is freed when this ends.
        try:
            others = self._load_captioner() if the_plan.captions else None, self._load_upsampler(the_plan)
            if self.fleet is not None:
                # The batch size follows from the workers' devices: the run itself computes nothing.
                found = self.fetch()
                request = request.with_batch_size(batch_size_of(request, found.device, found.facts.patch))
            with (
                deterministic_algorithms(request.compute.deterministic),
                delivered_here(observer) as told,
                self._executor(told) as (executor, observed),
            ):
                yield replace(Cascade.of(request, self.load(), the_plan, observed, space, *others), executor=executor)
        finally:
            if self._once:
                self.close()

    def is_for(self, request: Request) -> bool:
        """Whether the request names this model with these parts."""
        known = [self.chosen, *([self._pinned] if self._pinned else [])]
        return any((request.model, request.parts) == (own.name, own.parts) for own in known)

    def computes(self, request: Request) -> bool:
        """Whether the request has these ``compute`` settings, except those that do not affect how it is loaded."""
        own = self.chosen.compute
        loaded = replace(own, batch_size=None, tile=None, deterministic=False)
        return replace(request.compute, batch_size=None, tile=None, deterministic=False) == loaded

    def check(self, request: Request) -> None:
        """Raise ``RequestError`` if the request is for another model, or for one that computes otherwise."""
        own = self.chosen
        if not self.is_for(request):
            raise RequestError(
                f"model: the request is for {request.model!r} and its parts, but {own.name!r} is loaded; create "
                "requests with the loaded model's request(), or load the other model"
            )
        if not self.computes(request):
            raise RequestError(f"compute: the model was loaded with {own.compute}, the request has {request.compute}")

    @contextmanager
    def _executor(self, observer: Observer) -> Iterator[tuple[Executor, Observer]]:
        """The executor of the model's devices, and the observer to be used with it."""
        on_split = partial(_warn_of_split, observer)
        if self.fleet is not None:
            with self.fleet.executor(on_split, observer) as found:
                yield found
            return
        with executor_for(self.fetch().device, on_split) as executor:
            yield executor, observer

    def _load_captioner(self) -> Captioner:
        if self._captioner is None:
            found = self.fetch()
            self._captioner = load_captioner(found.place, self.chosen.compute, found.dtype, found.parts)
        return self._captioner

    def _load_upsampler(self, the_plan: Plan) -> Upsampler | None:
        parts = self.fetch().parts
        if self.fleet is not None:
            self.load()
            return self.fleet.upsampler
        if self._upsampler is None and parts.upsampler is not None and the_plan.stages:
            self._upsampler = load_upsampler(parts.upsampler, parts.allow_pickle, self.fetch().device)
        return self._upsampler

    def _with_team(self, found: FoundModel) -> FoundModel:
        return found if self.fleet is None else found.with_team(self.fleet.team(found, self.chosen.compute))


def _warn_of_split(observer: Observer, kind: str, most: int) -> None:
    observer(Warned(f"the device has no memory for so many patches at once; going on with {most}"))
