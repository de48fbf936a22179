"""The files of a model: what is wrong with one is said with its name, before a library reads it in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pixelsmith.errors import ModelError
from pixelsmith.system.durable import read_object, read_whole

Shapes = Mapping[str, Sequence[int]]
"""Of tensors by name."""


def read_json(path: Path) -> dict[str, Any]:
    """An object from a file. Raises ``ModelError``."""
    try:
        return read_object(read_whole(path))
    except OSError as error:
        reason = f"{path.name}: {error.strerror}"
        raise ModelError(f"{path.parent}: not a model in the diffusers format ({reason})") from error
    except ValueError as error:
        raise ModelError(f"{path}: expected an object of JSON: {error}") from error


def shapes_in(file: Path) -> Shapes:
    """Of the tensors in a ``.safetensors`` file, from its header: none in another file, or where there is none.

    Raises ``ModelError`` for one that is empty, cut or damaged.
    """
    if file.suffix != ".safetensors" or not file.exists():
        return {}
    check_weights(file)
    try:
        with safe_open(file, "numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: it is not a whole .safetensors file, it may be cut or damaged ({error})") from error


def check_weights(file: Path) -> None:
    """Raise ``ModelError`` for weights that are no file, or an empty one."""
    if not file.is_file():
        raise ModelError(f"{file}: expected a file with weights")
    if file.stat().st_size == 0:
        raise ModelError(f"{file}: it is empty; copy or download it again")


def check_vocabulary(file: Path) -> None:
    """Raise ``ModelError`` for a ``tokenizer.json`` that is damaged."""
    found = file.stat()
    if fault := _fault(file, found.st_size, found.st_mtime_ns):
        raise ModelError(f"{file}: it is no tokenizer's file, it may be damaged ({fault})")


@lru_cache(maxsize=16)
def _fault(file: Path, size: int, changed: int) -> str | None:
    """What is wrong with a ``tokenizer.json``; the large ones take a second to read."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(file))
    except Exception as error:
        # It raises nothing else.
        return str(error)
    return None
