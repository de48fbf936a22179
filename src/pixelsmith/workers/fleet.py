"""The workers of a model: starts them, checks that their versions are those of the run, and loads the model there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from pixelsmith.config.compute import Compute
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.request import Request
from pixelsmith.config.workers import Workers
from pixelsmith.engine.codec import TILE
from pixelsmith.engine.crew import Crew, Leases, LostError, Member, Shared, raised
from pixelsmith.engine.doubled import TILE_OF_LATENT_UPSAMPLER
from pixelsmith.engine.enlarged import TILE_OF_UPSAMPLER
from pixelsmith.engine.executor import PATCH, OnSplit
from pixelsmith.engine.many import Many
from pixelsmith.engine.stage import batch_size_on
from pixelsmith.errors import DeviceError, RequestError
from pixelsmith.events import Event, Observer, Progress, Warned
from pixelsmith.families import choose_device, choose_dtype, processor_of
from pixelsmith.planning.forecast import Rates, load_rates
from pixelsmith.run.directory import versions
from pixelsmith.run.found import FoundModel
from pixelsmith.run.team import SPREAD, Team, common, name_of, together
from pixelsmith.workers.cluster import RayLinks, check_ray
from pixelsmith.workers.model_transfer import ModelFiles
from pixelsmith.workers.processes import Processes, environment
from pixelsmith.workers.remote import RemoteFamily, RemoteUpsampler
from pixelsmith.workers.worker import About, ModelSpec, Opened

_KINDS = {
    "upsample": TILE_OF_UPSAMPLER,
    "encode": TILE,
    "double": TILE_OF_LATENT_UPSAMPLER,
    "control": TILE,
    "denoise": PATCH,
    "decode": TILE,
}
"""The kind of item that each phase processes."""
LEASES = Leases()
GATHER_SECONDS = 300.0
"""How long a run waits for the first worker, because the nodes of a cluster may be starting."""
LOAD_SECONDS = 7200.0
"""How long a run waits for the first worker to load the model, which may have to fetch tens of gigabytes."""
MORE_SECONDS = 3.0
"""How long a run waits for more workers of a cluster after the first one; later ones join while it runs."""


class Fleet:
    """Starts workers, which keep a model loaded until ``close``. Raises ``RequestError`` if none can be used."""

    def __init__(self, workers: Workers) -> None:
        self._workers, self._far = workers, workers.ray is not None
        self.abouts: dict[Member, About] = {}
        self._model: _Model | None = None
        self._opened: Opened | None = None

    def team(self, model: FoundModel, compute: Compute) -> Team:
        """The devices of the workers that have started, for a model."""
        self._gather()
        abouts = self._present
        best = common(about.dtypes[0 if model.facts.float16_safe else 1] for about in abouts.values())
        dtype = best if compute.dtype == "auto" else compute.dtype
        rates = self._of_each("rates", model.rated_as, dtype)
        return Team(
            kinds=tuple(about.device for about in abouts.values()),
            processors=tuple(about.processor for about in abouts.values()),
            dtype=dtype,
            rates=tuple(rates.get(member) for member in abouts),
            memories=memories_of(abouts.values()),
        )

    def load(self, files: ModelFiles, compute: Compute, facts: ModelFacts) -> RemoteFamily:
        """Load the model on all workers, and later on those that join. Returns as soon as one worker has loaded it.

        Raises ``RequestError`` if no worker can load it.
        """
        digest = files.digest if self._far else None
        self._model = _Model(ModelSpec(files.spelled, files.parts, compute, digest), facts, files)
        for member in self._present:
            self._load(member, self._model)
        try:
            while self._opened is None or not self.crew.ready:
                self.crew.turn(1.0)
        except DeviceError as error:
            raise RequestError(f"devices: {error}") from error
        return RemoteFamily(facts, self.crew, self._opened.texture, self._opened.latent_upsampler)

    @property
    def upsampler(self) -> RemoteUpsampler | None:
        """The upsampler that the workers have loaded with the model, if it has one."""
        scale = None if self._opened is None else self._opened.upsampler
        return None if scale is None else RemoteUpsampler(scale, self.crew)

    def calibrate(self, request: Request, known: Rates) -> Rates:
        """Let all workers measure their rates for some seconds, all at once because some share a processor.

        Returns their combined rates, with those of the other phases from ``known``.
        """
        self.crew.wait(lambda: len(self.crew.ready) == len(self.crew.members), GATHER_SECONDS)
        found = together([*self._of_each("calibrate", request).values()])
        return known if found is None else replace(known, **{phase: found.of(phase) for phase in SPREAD})

    @contextmanager
    def executor(self, on_split: OnSplit, observer: Observer) -> Iterator[tuple[Many, Observer]]:
        """The executor of the workers, and an observer whose progress events contain their speeds."""

        def observed(event: Event) -> None:
            if isinstance(event, Progress) and event.phase in _KINDS:
                event = replace(event, workers=self.crew.speeds(_KINDS[event.phase]))
            observer(event)

        self.crew.tell = lambda line: observer(Warned(line))
        # The groups are those of one of the fastest devices alone.
        even = any(about.device != "cpu" for about in self._present.values())
        try:
            with Many(self.crew, on_split, even) as many:
                yield many, observed
        finally:
            self.crew.tell = None

    @cached_property
    def crew(self) -> Crew:
        """The workers, which are started on first use."""
        links = RayLinks(self._workers) if self._far else Processes(self._workers.devices)
        crew = Crew(links, LEASES)
        crew.greet = self._greet
        return crew

    def close(self) -> None:
        """End the workers; new ones are started on the next use."""
        if "crew" in vars(self):
            self.crew.close()
            del self.crew
        self.abouts.clear()
        self._model = self._opened = None

    @property
    def _present(self) -> dict[Member, About]:
        return {member: about for member, about in self.abouts.items() if member in self.crew.members}

    def _gather(self) -> None:
        crew = self.crew
        # They may have waited for a long time since an earlier plan, without a model.
        crew.expect("had answered")
        try:
            crew.turn(0.0)
            crew.wait(lambda: bool(self._present) if self._far else self._all_known, GATHER_SECONDS)
            if self._far:
                crew.wait(lambda: self._all_known, MORE_SECONDS)
        except DeviceError as error:
            raise RequestError(f"devices: {error}") from error
        if not self._present:
            raise RequestError(f"devices: no worker came within {GATHER_SECONDS:.0f} seconds; is the cluster busy?")

    @property
    def _all_known(self) -> bool:
        return len(self._present) == len(self.crew.members)

    def _greet(self, member: Member) -> None:
        self.crew.answered(member.link.call("describe"), partial(self._described, member))

    def _described(self, member: Member, answer: Future[Any]) -> None:
        about = self._value(member, answer)
        if about is None:
            return
        if difference := difference_of(about.versions, versions()):
            self.crew.lose(member, difference)
            return
        self.abouts[member] = about
        if self._model is not None:
            self._load(member, self._model)

    def _load(self, member: Member, model: _Model) -> None:
        self.crew.expect("had loaded the model", LOAD_SECONDS)
        self.crew.answered(member.link.call("open", model.spec), partial(self._was_opened, member, model))

    def _was_opened(self, member: Member, model: _Model, answer: Future[Any]) -> None:
        opened: Opened | None = self._value(member, answer)
        if member not in self.crew.members:
            return
        if opened is None:
            # The worker does not have the files.
            member.link.call("receive", model.packed)
            self._load(member, replace(model, spec=replace(model.spec, sent=True)))
            return
        self._opened, about = opened, self.abouts[member]
        if model.spec.compute.batch_size is None and about.device == "cpu":
            # The groups' size suits the fastest devices; a CPU computes them in smaller batches.
            member.most[PATCH] = batch_size_on(about.device, model.facts.patch)
        self.crew.admit(member)
        self.crew.expect("was ready")

    def _of_each(self, method: str, *given: Any) -> dict[Member, Any]:
        """The answers of all present workers to a call."""
        found: dict[Member, Any] = {}

        def answered(member: Member, answer: Future[Any]) -> None:
            found[member] = self._value(member, answer)

        asked = self._present
        for member in asked:
            self.crew.answered(member.link.call(method, *given), partial(answered, member))
        self.crew.wait(lambda: asked.keys() - found.keys() <= asked.keys() - self._present.keys(), GATHER_SECONDS)
        return found

    def _value(self, member: Member, answer: Future[Any]) -> Any:
        """A member's answer; ``None`` if it refused or ended, in which case it is removed."""
        try:
            what, value = raised(answer)
        except LostError as error:
            self.crew.lose(member, str(error))
            return None
        if what == "refused":
            self.crew.lose(member, value)
            return None
        return value


@dataclass(frozen=True)
class _Model:
    """The model that workers load, and its files."""

    spec: ModelSpec
    facts: ModelFacts
    files: ModelFiles

    @cached_property
    def packed(self) -> Shared:
        return Shared(self.files.packed)


def memories_of(abouts: Collection[About]) -> tuple[int | None, ...]:
    """The memory for each worker in bytes, if known; those on the CPU of one machine share its memory."""
    on_cpu = Counter(about.host for about in abouts if about.device == "cpu")
    shares = (on_cpu[about.host] if about.device == "cpu" else 1 for about in abouts)
    return tuple(about.memory and about.memory // share for about, share in zip(abouts, shares, strict=True))


def check_workers(workers: Workers, compute: Compute) -> None:
    """Raise ``RequestError`` if workers cannot use these settings, ``MissingPartError`` if Ray is not installed."""
    if workers.ray is not None:
        check_ray()
    if compute.device != "auto":
        raise RequestError(f"device: the workers' are named by --devices; leave out --device {compute.device}")
    if compute.memory == "encoders-released":
        raise RequestError(
            "memory: encoders-released is for one device; with several choose all, offload or sequential"
        )
    if workers.ray is None:
        for kind, name in zip(workers.kinds, workers.devices, strict=True):
            choose_device(kind)
            environment(name, workers.devices)


def team_here(workers: Workers, model: FoundModel, compute: Compute) -> Team:
    """The team that devices of this machine would form, without starting any worker."""
    devices = [choose_device(kind) for kind in workers.kinds]
    dtype = common(name_of(choose_dtype(compute.dtype, device, model.facts.float16_safe)) for device in devices)
    rates = tuple(load_rates(model.rated_as, device.type, dtype) for device in devices)
    return Team(workers.kinds, tuple(map(processor_of, devices)), dtype, rates)


def difference_of(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """The first version that differs, for messages."""
    for name, version in ours.items():
        if theirs.get(name) != version:
            return f"it has {name} {theirs.get(name, 'not at all')}, the run has {version}"
    return None
