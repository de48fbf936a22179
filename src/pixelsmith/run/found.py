"""A model that is found on this disk but not loaded: its facts, the plans of requests, the identity of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.compute import Compute
from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.config.parts import Parts
from pixelsmith.config.plans import Plan
from pixelsmith.config.request import Request
from pixelsmith.engine.enlarged import LAYOUT, piece_side, stored_bytes, tiles_of_passes
from pixelsmith.engine.stage import batch_size_of
from pixelsmith.errors import RunError
from pixelsmith.families import (
    UpsamplerFacts,
    check_complete,
    check_exchange,
    check_parts,
    check_weighting,
    choose_device,
    choose_dtype,
    fetch,
    find_model,
    model_files,
    processor_of,
    read_facts,
    read_upsampler,
    unpinned,
)
from pixelsmith.geometry import Size
from pixelsmith.pixels.reading import picture_size
from pixelsmith.planning.forecast import Rates, load_rates, rated_as, seconds_of
from pixelsmith.planning.planner import Numbers, make_plan, no_bytes
from pixelsmith.run.directory import Identity
from pixelsmith.run.given import check_masks
from pixelsmith.run.team import Team
from pixelsmith.system.digests import digest_of
from pixelsmith.version import __version__


@dataclass(frozen=True)
class FoundModel:
    """A model on this disk, with the device and dtype that ``auto`` chooses for it here or for a team of workers."""

    name: str
    place: Path
    parts: Parts
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    compute: Compute = field(default_factory=Compute)
    team: Team | None = None
    upsampler: UpsamplerFacts | None = None

    @classmethod
    def of(cls, name: str, parts: Parts, compute: Compute, fetched: bool = False) -> FoundModel:
        """Find a model. ``fetched``: with its weights; otherwise its configuration suffices. Raises ``InputError``."""
        check_parts(parts)
        place = fetch(name, parts) if fetched else find_model(name, False, parts)
        check_exchange(place, parts, compute)
        check_complete(place, parts, fetched)
        upsampler = read_upsampler(parts, fetched)
        facts, device = read_facts(place, name, parts), choose_device(compute.device)
        dtype = choose_dtype(compute.dtype, device, facts.float16_safe)
        return cls(name, place, parts, facts, device, dtype, compute, upsampler=upsampler)

    def with_team(self, team: Team) -> FoundModel:
        """The same model, computed by these workers."""
        device = torch.device(team.device.split()[0])
        return replace(self, device=device, dtype=choose_dtype(team.dtype, device), team=team)

    @property
    def machine(self) -> tuple[str, str, str]:
        """The key of measured rates: ``rated_as``, the device, the dtype."""
        name = self.team.name if self.team else self.device.type
        return self.rated_as, name, str(self.dtype).removeprefix("torch.")

    @property
    def rated_as(self) -> str:
        """The model and its parts without revisions, with the settings that change the cost of its calls."""
        vae, network = (None if name is None else unpinned(name) for name in (self.parts.vae, self.parts.network))
        return rated_as(unpinned(self.facts.name), replace(self.parts, vae=vae, network=network), self.compute)

    @property
    def rates(self) -> Rates | None:
        """The rates measured last on this device. For a team that has none yet, those of its members are added."""
        return load_rates(*self.machine) or (self.team.together if self.team else None)

    def plan(self, request: Request) -> Plan:
        """Plan a request. Raises ``InputError`` if it cannot be done with this model."""
        if request.prompt_weighting:
            for prompts in request.texts(1):
                check_weighting(self.facts, *prompts)
        for named in request.pictures:
            # An unreadable picture is reported now, not when the first stage begins.
            picture_size(named)
        check_masks(request)
        the_plan = make_plan(request, self.facts, _start_size(request), self._numbers(request))
        rates = self.rates
        method_at = partial(request.method.at, recommended=self.facts.recommended)
        return replace(the_plan, seconds=None if rates is None else seconds_of(the_plan, method_at, rates))

    def _numbers(self, request: Request) -> Numbers:
        size, upcast = self.dtype.itemsize, self.facts.float32_autoencoder and self.dtype == torch.float16
        numbers = Numbers(
            size,
            4 if upcast else size,
            batch_size_of(request, self.device, self.facts.patch),
            size if self.device.type == "cpu" else 0,
        )
        upsampler = self.upsampler
        if upsampler is None:
            return numbers
        side = min(LAYOUT.side, piece_side(request.compute.tile, upsampler.scale) or LAYOUT.side)
        return replace(
            numbers,
            upsampler_bytes=4 * upsampler.parameters,
            upsampler_tile_bytes=4 * upsampler.pixel_values * side**2,
            upsampled_bytes=partial(stored_bytes, scale=upsampler.scale) if self.team else no_bytes,
            upsampled_tiles=partial(self._upsampled_tiles, request, upsampler.scale),
        )

    def _upsampled_tiles(self, request: Request, scale: int, size: Size, below: Size) -> tuple[int, ...]:
        """The tiles of each pass of an upsampler of this scale below a stage, whose canvas may exceed its picture."""
        window = self.facts.latent_size(size).window.scaled(self.facts.latent_scale)
        return tiles_of_passes(size, below, window, request.method.kernel, scale, request.wrapped_axes)

    def settings(self, request: Request) -> dict[str, Any]:
        """The settings stored in a picture file: the request, and the device and dtype that ``auto`` chose."""
        device = self.team.device if self.team else self.device.type
        processor = self.team.processor if self.team else processor_of(self.device)
        about = {"device": device, "processor": processor, "dtype": self.machine[2]}
        return {"pixelsmith": __version__, "request": request.to_dict(), **about}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all files of the model (``pixelsmith.system.digests``). Raises ``RunError``."""
        return digest_of(model_files(self.place, self.parts))

    def identity(self, settings: Mapping[str, Any], request: Request, moved: bool = False) -> Identity:
        """The identity of a run with these settings; ``request`` has the current paths of its files.

        ``moved``: whether the run may have begun on another device. Raises ``RunError`` if it has begun on another
        device without that, or in another dtype.
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
