"""A model as it is found on this disk, before it is loaded: what it is, and what it would do here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.compute import Compute
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.engine.stage import batch_size_of
from pixelsmith.errors import RunError
from pixelsmith.families import (
    check_complete,
    check_parts,
    check_weighting,
    choose_device,
    choose_dtype,
    fetch,
    find_model,
    model_files,
    processor_of,
    read_facts,
    unpinned,
)
from pixelsmith.geometry import Size
from pixelsmith.pixels.reading import picture_size
from pixelsmith.planning.forecast import Rates, load_rates, seconds_of
from pixelsmith.planning.planner import Numbers, make_plan
from pixelsmith.run.directory import Identity
from pixelsmith.run.team import Team
from pixelsmith.system.digests import digest_of
from pixelsmith.version import __version__


@dataclass(frozen=True)
class FoundModel:
    """A model on this disk, by its ``name``, and what ``auto`` means for it here or on a ``team`` of workers."""

    name: str
    place: Path
    parts: Parts
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    team: Team | None = None

    @classmethod
    def of(cls, name: str, parts: Parts, compute: Compute, fetched: bool = False) -> FoundModel:
        """``fetched``: with its weights; else its configuration is enough. Raises ``InputError``."""
        check_parts(parts)
        place = fetch(name, parts) if fetched else find_model(name, False, parts)
        check_complete(place, parts, fetched)
        facts, device = read_facts(place, name, parts), choose_device(compute.device)
        return cls(name, place, parts, facts, device, choose_dtype(compute.dtype, device, facts.float16_safe))

    def with_team(self, team: Team) -> FoundModel:
        """The same where these workers compute."""
        device = torch.device(team.device.split()[0])
        return replace(self, device=device, dtype=choose_dtype(team.dtype, device), team=team)

    @property
    def machine(self) -> tuple[str, str, str]:
        """What rates depend on: the model, of whichever revision, the device, the dtype."""
        name = self.team.name if self.team else self.device.type
        return unpinned(self.facts.name), name, str(self.dtype).removeprefix("torch.")

    @property
    def rates(self) -> Rates | None:
        """What was measured last on this device; of a team that has not worked together, what its members reach."""
        return load_rates(*self.machine) or (self.team.together if self.team else None)

    def plan(self, request: Request) -> Plan:
        """What a request would do and cost. Raises ``InputError`` for what cannot be done."""
        if request.prompt_weighting:
            for prompts in request.texts(1):
                check_weighting(self.facts, *prompts)
        for named in request.pictures:
            # One that cannot be read is a mistake to be found now, not when the first stage begins.
            picture_size(named)
        the_plan = make_plan(request, self.facts, _start_size(request), self._numbers(request))
        rates = self.rates
        method_at = partial(request.method.at, recommended=self.facts.recommended)
        return replace(the_plan, seconds=None if rates is None else seconds_of(the_plan, method_at, rates))

    def _numbers(self, request: Request) -> Numbers:
        size, upcast = self.dtype.itemsize, self.facts.float32_autoencoder and self.dtype == torch.float16
        return Numbers(size, 4 if upcast else size, batch_size_of(request, self.device, self.facts.patch))

    def settings(self, request: Request) -> dict[str, Any]:
        """What a picture file carries: the request, and what ``auto`` meant on this machine."""
        device = self.team.device if self.team else self.device.type
        processor = self.team.processor if self.team else processor_of(self.device)
        about = {"device": device, "processor": processor, "dtype": self.machine[2]}
        return {"pixelsmith": __version__, "request": request.to_dict(), **about}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files that it is made of (``pixelsmith.system.digests``). Raises ``RunError``."""
        return digest_of(model_files(self.place, self.parts))

    def identity(self, settings: Mapping[str, Any], request: Request, moved: bool = False) -> Identity:
        """That of a run with these settings; ``request`` is where its files are.

        ``moved``: whether it may have been begun on another device. Raises ``RunError`` where it was, or ran in
        another dtype.
        """
        names = ("dtype",) if moved else ("device", "processor", "dtype")
        made, here = (
            " ".join(str(values.get(name)) for name in names) for values in (settings, self.settings(request))
        )
        if made != here:
            raise RunError(f"device: the run was made on {made}, here is {here}")
        batch_size = batch_size_of(request, self.device, self.facts.patch)
        return replace(Identity.of(settings, batch_size, (), request.pictures), model=self.digest)


def _start_size(request: Request) -> Size | None:
    return None if request.from_image is None else picture_size(Path(request.from_image))
