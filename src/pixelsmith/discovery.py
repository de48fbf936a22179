"""Registries without a list: what the files of a folder define under one name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any


def defined_in(package: str, name: str) -> Iterator[Any]:
    """What ``name`` is in each module of a package that defines it, in the order of the modules' names."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        found = vars(importlib.import_module(f"{package}.{module.name}"))
        if name in found:
            yield found[name]
