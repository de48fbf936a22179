"""All model families: whatever the files of ``architectures/`` define."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from pixelsmith.discovery import defined_in
from pixelsmith.errors import ModelError
from pixelsmith.families.architecture import Architecture


@cache
def architectures() -> tuple[Architecture, ...]:
    """By name."""
    found: Iterator[Architecture] = defined_in("pixelsmith.families.architectures", "ARCHITECTURE")
    return tuple(sorted(found, key=lambda architecture: architecture.name))


def architecture_of(pipeline: str, model: str) -> Architecture:
    """The family of a pipeline class. Raises ``ModelError``, which lists the supported ones."""
    known = {name: architecture for architecture in architectures() for name in architecture.pipelines}
    if pipeline not in known:
        raise ModelError(f"{model}: its pipeline is {pipeline}; supported are {', '.join(sorted(known))}")
    return known[pipeline]
