"""Registries by discovery: the values that the modules of a package define under one name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any


def defined_in(package: str, name: str) -> Iterator[Any]:
    """The value of ``name`` in each module of a package that defines it, in the order of the modules' names."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        found = vars(importlib.import_module(f"{package}.{module.name}"))
        if name in found:
            yield found[name]
