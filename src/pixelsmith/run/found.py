"""A model as it is found on this disk, before it is loaded: what it is, and what it would do here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Compute, Request
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
from pixelsmith.planning.forecast import load_rates, seconds_of
from pixelsmith.planning.planner import make_plan
from pixelsmith.run.directory import Identity, digest_of
from pixelsmith.version import __version__


@dataclass(frozen=True)
class FoundModel:
    """A model on this disk, and what ``auto`` means for it on this machine."""

    place: Path
    parts: Parts
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(cls, name: str, parts: Parts, compute: Compute, fetched: bool = False) -> FoundModel:
        """``fetched``: with its weights; else its configuration is enough. Raises ``InputError``."""
        check_parts(parts)
        place = fetch(name, parts) if fetched else find_model(name, False, parts)
        check_complete(place, parts, fetched)
        facts, device = read_facts(place, name, parts), choose_device(compute.device)
        return cls(place, parts, facts, device, choose_dtype(compute.dtype, device, facts.float16_safe))

    @property
    def machine(self) -> tuple[str, str, str]:
        """What rates depend on: the model, of whichever revision, the device, the dtype."""
        return unpinned(self.facts.name), self.device.type, str(self.dtype).removeprefix("torch.")

    def plan(self, request: Request) -> Plan:
        """What a request would do and cost. Raises ``InputError`` for what cannot be done."""
        if request.prompt_weighting:
            check_weighting(self.facts, request.prompt, request.negative_prompt)
        for named in request.pictures:
            # One that cannot be read is a mistake to be found now, not when the first stage begins.
            picture_size(named)
        the_plan = make_plan(request, self.facts, _start_size(request), self.dtype.itemsize)
        rates = load_rates(*self.machine)
        method_at = partial(request.method.at, recommended=self.facts.recommended)
        return replace(the_plan, seconds=None if rates is None else seconds_of(the_plan, method_at, rates))

    def settings(self, request: Request) -> dict[str, Any]:
        """What a picture file carries: the request, and what ``auto`` meant on this machine."""
        _, device, dtype = self.machine
        about = {"device": device, "processor": processor_of(self.device), "dtype": dtype}
        return {"pixelsmith": __version__, "request": request.to_dict(), **about}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files that it is made of: they are read once. Raises ``RunError``."""
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
