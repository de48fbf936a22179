"""A model that another program has loaded, with which pictures are made as with one that was loaded here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch

from pixelsmith.api.loaded import LoadedModel
from pixelsmith.config.compute import Compute, DtypeName
from pixelsmith.config.parts import Parts
from pixelsmith.families import Family
from pixelsmith.run.found import FoundModel


class HeldModel(LoadedModel):
    """A ``LoadedModel`` of a model that somebody else has loaded: ``close`` leaves it as it is.

    - ``family``: the model as Pixelsmith calls one (``pixelsmith.families.Family``); its ``facts.name`` is what
      requests call it.
    - ``dtype``: that in which its network computes.
    - ``digest``: gives a text that is another one for every other model; it is called where a run directory is made.

    Raises ``RequestError`` where the family is on a kind of device that is not known.
    """

    def __init__(self, family: Family, dtype: torch.dtype, digest: Callable[[], str]) -> None:
        facts, name = family.facts, str(dtype).removeprefix("torch.")
        compute: dict[str, Any] = {
            "device": family.device.type,
            "dtype": name if name in get_args(DtypeName) else "auto",
        }
        super().__init__(facts.name, Parts(), Compute(**compute))
        found = _Held(facts.name, Path(facts.name), Parts(), facts, family.device, dtype, hashed=digest)
        self._model.hold(family, found)

    def close(self) -> None:
        """Leave the model to who has loaded it."""


@dataclass(frozen=True)
class _Held(FoundModel):
    """What is known of a model in memory."""

    hashed: Callable[[], str] = field(kw_only=True)

    @cached_property
    def digest(self) -> str:
        """What ``hashed`` gives."""
        return self.hashed()
