"""The shape of the code: what is public, which folder may import which, and what is found by one file."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
from collections import Counter
from graphlib import TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType

import click
import pytest

import pixelsmith
from pixelsmith import engine
from pixelsmith.cli.program import cli
from pixelsmith.discovery import defined_in
from pixelsmith.engine.executor import Executor
from pixelsmith.families.registry import architectures
from pixelsmith.sampling.guidances import GUIDANCES
from pixelsmith.sampling.merging import MERGES
from pixelsmith.sampling.samplers import SAMPLERS

SOURCE = Path(pixelsmith.__file__).parent
FILES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))
MODULES = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}

FLOORS = (
    {"discovery", "errors", "version"},
    {"geometry", "system"},
    {"sampling"},
    {"canvas", "config"},
    {"events", "pixels", "families"},
    {"planning"},
    {"engine"},
    {"run"},
    {"web", "workers"},
    {"api", "extension", "notebook", "viewer"},
    {"__init__"},
    {"doctor", "evaluate", "studio"},
    {"cli"},
    {"__main__"},
)
"""Files and folders at the top of the package, from the lowest up: each may import those below its own floor."""

FORBIDDEN = {
    "sampling/": {"diffusers", "transformers", "pyvips", "PIL", "pathlib"},
    "canvas/": {"diffusers", "transformers", "pyvips", "PIL"},
    "config/": {"torch", "diffusers", "transformers"},
    "planning/": {"torch", "diffusers", "transformers"},
    "engine/": {"diffusers", "transformers", "pyvips"},
    "pixels/": {"pixelsmith.config.request"},
    "run/": {"diffusers", "transformers", "pyvips"},
    "run/directory.py": {"torch", "pixelsmith.families", "pixelsmith.engine"},
    "workers/": {"diffusers", "transformers", "pyvips"},
    "config/workers.py": {"torch", "numpy", "ray"},
    "api/": {"diffusers", "transformers", "pyvips"},
    "cli/": {"torch", "diffusers", "transformers"},
    "evaluate/": {"diffusers", "pixelsmith.viewer"},
    "evaluate/commands.py": {"torch", "numpy", "matplotlib"},
    "geometry.py": {"torch", "numpy"},
}
"""What files must not import although it lies below them, or is not ours."""


def imports_of(file: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((SOURCE / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own_imports_of(file: str) -> set[str]:
    """The modules of the package that a file imports, by their names in it; the package itself is ``__init__``."""
    inside = {name.partition(".")[2] for name in imports_of(file) if name.startswith("pixelsmith.")}
    names = {name for name in inside if name in MODULES}
    return names | ({"__init__"} if any(name in pixelsmith.__all__ for name in inside) else set())


def room_of(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("file", FILES)
def test_folders_import_only_what_lies_below_them(file: str) -> None:
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    room = Path(file).parts[0].removesuffix(".py")
    wrong = {
        name for name in own_imports_of(file) if floor_of[room_of(name)] >= floor_of[room] and room_of(name) != room
    }
    assert not wrong, f"{file} must not import {wrong}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Nor do folders, where one of them is meant (``TopologicalSorter`` names a circle)."""
    graph = {name: own_imports_of(file) - {name} for name, file in MODULES.items() if not file.endswith("__init__.py")}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("file", FILES)
def test_what_files_must_not_know(file: str) -> None:
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


def test_a_module_has_a_name_of_its_own() -> None:
    """No two have one name, and none is called as a public function is: ``pixelsmith.plan`` is the function."""
    names = Counter(Path(file).stem for file in FILES if Path(file).stem not in ("__init__", "__main__"))
    assert [name for name, count in names.items() if count > 1] == []
    functions = {name for name in pixelsmith.__all__ if isinstance(getattr(pixelsmith, name), FunctionType)}
    assert not functions & {*names, *(room for rooms in FLOORS for room in rooms)}


@pytest.mark.parametrize(
    ("package", "name", "text"),
    [
        ("sampling.samplers", "RULE", "from pixelsmith.sampling.samplers.ddim import RULE"),
        ("sampling.guidances", "GUIDANCE", "from pixelsmith.sampling.guidances.cfg import GUIDANCE"),
        ("sampling.merging", "MERGES", "from pixelsmith.sampling.merging.residual import MERGES"),
        ("families.architectures", "ARCHITECTURE", "from pixelsmith.families.architectures.flux import ARCHITECTURE"),
    ],
)
def test_a_new_one_is_found_by_its_file(
    package: str, name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No list names samplers, guidances, ways to merge the guide or families."""
    there = importlib.import_module(f"pixelsmith.{package}")
    before = list(defined_in(there.__name__, name))
    (tmp_path / "of_a_newcomer.py").write_text(text)
    monkeypatch.setattr(there, "__path__", [*there.__path__, str(tmp_path)])
    try:
        assert len(list(defined_in(there.__name__, name))) == len(before) + 1
    finally:
        sys.modules.pop(f"{there.__name__}.of_a_newcomer", None)
        vars(there).pop("of_a_newcomer", None)


def test_every_executor_is_in_the_contract_suite() -> None:
    """Executors are passed to a cascade, not chosen by name: a suite that lists them stands in for a registry."""
    executors = {
        name
        for found in pkgutil.iter_modules(engine.__path__, "pixelsmith.engine.")
        for name, one in vars(importlib.import_module(found.name)).items()
        if inspect.isclass(one) and one is not Executor and all(hasattr(one, way) for way in ("run", "ahead", "behind"))
    }
    assert len(executors) >= 3
    suite = Path(__file__).parent / "contracts/test_executor.py"
    (listed,) = (
        node.value
        for node in ast.parse(suite.read_text(encoding="utf-8")).body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "EXECUTORS" and node.value
    )
    assert executors <= {node.id for node in ast.walk(listed) if isinstance(node, ast.Name)}


def test_the_command_line_has_what_the_registries_have() -> None:
    options = {option.name: option.type for option in cli.commands["generate"].params}
    for name, registry in (("sampler", SAMPLERS), ("guidance", GUIDANCES), ("merge", MERGES)):
        kind = options[name]
        assert isinstance(kind, click.Choice)
        assert tuple(kind.choices) == tuple(registry)
    files = {path.stem for path in (SOURCE / "families/architectures").glob("[!_]*.py")}
    assert len(architectures()) == len(files)


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
