"""All model families: whatever the files of ``architectures/`` define."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from pixelsmith.errors import ModelError
from pixelsmith.families import architectures as folder
from pixelsmith.families.architecture import Architecture


@cache
def architectures() -> tuple[Architecture, ...]:
    """By name."""
    names = [module.name for module in pkgutil.iter_modules(folder.__path__)]
    found = [importlib.import_module(f"{folder.__name__}.{name}").ARCHITECTURE for name in names]
    return tuple(sorted(found, key=lambda architecture: architecture.name))


def architecture_of(pipeline: str, model: str) -> Architecture:
    """The family that takes a pipeline class. Raises ``ModelError`` with those that are supported."""
    known = {name: architecture for architecture in architectures() for name in architecture.pipelines}
    if pipeline not in known:
        raise ModelError(f"{model}: its pipeline is {pipeline}; supported are {', '.join(sorted(known))}")
    return known[pipeline]
