"""The shape of the code: what is public, and which module may import which."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType

import pytest

import pixelsmith

SOURCE = Path(pixelsmith.__file__).parent
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))

FORBIDDEN = {
    "sampling/": {"diffusers", "transformers", "pyvips", "PIL", "pixelsmith.families", "pixelsmith.pixels",
                  "pixelsmith.canvas", "pixelsmith.evaluate", "pixelsmith.plan", "pixelsmith.request",
                  "pixelsmith.stage", "pathlib"},
    "engine/": {"diffusers", "transformers", "pyvips", "pixelsmith.families", "pixelsmith.pixels", "pixelsmith.canvas",
                "pixelsmith.stage", "pixelsmith.generate"},
    "canvas/": {"diffusers", "transformers", "pixelsmith.families", "pixelsmith.stage", "pixelsmith.generate"},
    "pixels/": {"diffusers", "transformers", "pixelsmith.stage", "pixelsmith.generate", "pixelsmith.request"},
    "families/": {"pixelsmith.stage", "pixelsmith.generate", "pixelsmith.pixels", "pixelsmith.canvas"},
    "workers/": {"diffusers", "transformers", "pyvips", "pixelsmith.loaded", "pixelsmith.job", "pixelsmith.generate",
                 "pixelsmith.cli"},
    "workers/choice.py": {"torch", "numpy", "ray"},
    "viewer/": {"diffusers", "transformers", "pixelsmith.families", "pixelsmith.generate", "pixelsmith.stage"},
    "evaluate/": {"diffusers", "pixelsmith.viewer", "pixelsmith.cli"},
    "evaluate/commands.py": {"torch", "numpy", "matplotlib"},
    "run.py": {"torch", "diffusers", "transformers", "pixelsmith.families", "pixelsmith.generate", "pixelsmith.stage"},
    "geometry.py": {"torch", "numpy"},
    "request.py": {"torch", "numpy", "diffusers"},
    "plan.py": {"torch", "diffusers", "pixelsmith.families"},
    "stage.py": {"diffusers", "transformers", "pyvips", "pixelsmith.generate"},
    "found.py": {"diffusers", "transformers", "pyvips", "pixelsmith.loaded", "pixelsmith.job"},
    "job.py": {"diffusers", "transformers", "pyvips", "pixelsmith.loaded", "pixelsmith.generate"},
    "loaded.py": {"diffusers", "transformers", "pyvips", "pixelsmith.generate"},
    "generate.py": {"diffusers", "transformers", "pyvips", "pixelsmith.cli"},
    "cli.py": {"torch", "diffusers", "transformers", "pyvips"},
    "options.py": {"torch", "diffusers", "transformers", "pyvips", "pixelsmith.cli", "pixelsmith.stage"},
}  # fmt: skip


def imports_of(file: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((SOURCE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_one_way(file: str) -> None:
    for prefix, forbidden in FORBIDDEN.items():
        if file.startswith(prefix):
            wrong = {
                name for name in imports_of(file) for bad in forbidden if name == bad or name.startswith(bad + ".")
            }
            assert not wrong, f"{file} must not import {wrong}"


@pytest.mark.parametrize("file", FILES)
def test_only_families_know_diffusers(file: str) -> None:
    # The score of CLIP is computed with its own classes.
    if not file.startswith("families/") and file != "evaluate/clip.py":
        assert not {name for name in imports_of(file) if name.split(".")[0] in ("diffusers", "transformers")}


def test_every_public_name_exists_once_and_is_documented() -> None:
    assert sorted(pixelsmith.__all__) == sorted(set(pixelsmith.__all__))
    for name in pixelsmith.__all__:
        item = getattr(pixelsmith, name)
        assert not isinstance(item, type | FunctionType) or item.__doc__, name


@pytest.mark.parametrize("file", FILES)
def test_files_and_functions_stay_small_and_do_not_assert(file: str) -> None:
    tree = ast.parse((SOURCE / file).read_text(encoding="utf-8"))
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno <= 60, f"{file}: {node.name}"


def test_every_module_imports_by_itself() -> None:
    for module in pkgutil.walk_packages(pixelsmith.__path__, "pixelsmith."):
        importlib.import_module(module.name)


def test_the_console_script_is_there() -> None:
    (script,) = (entry for entry in entry_points(group="console_scripts") if entry.name == "pixelsmith")
    assert callable(script.load())
