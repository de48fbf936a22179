"""Reading and checking the files of a model, with errors that name the file, before a library loads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pixelsmith.errors import ModelError
from pixelsmith.system.durable import read_object, read_whole

Shapes = Mapping[str, Sequence[int]]
"""The shapes of tensors by name."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ``ModelError``."""
    try:
        return read_object(read_whole(path))
    except OSError as error:
        reason = f"{path.name}: {error.strerror}"
        raise ModelError(f"{path.parent}: not a model in the diffusers format ({reason})") from error
    except ValueError as error:
        raise ModelError(f"{path}: expected an object of JSON: {error}") from error


def shapes_in(file: Path) -> Shapes:
    """The shapes of the tensors in a ``.safetensors`` file, from its header; none for other or missing files.

    Raises ``ModelError`` if the file is empty, truncated or damaged.
    """
    if file.suffix != ".safetensors" or not file.exists():
        return {}
    check_weights(file)
    try:
        with safe_open(file, "numpy") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: it is no complete .safetensors file, it may be truncated ({error})") from error


def check_weights(file: Path) -> None:
    """Raise ``ModelError`` if weights are no file, or an empty one."""
    if not file.is_file():
        raise ModelError(f"{file}: expected a file with weights")
    if file.stat().st_size == 0:
        raise ModelError(f"{file}: it is empty; copy or download it again")


def check_vocabulary(file: Path) -> None:
    """Raise ``ModelError`` if a ``tokenizer.json`` is damaged."""
    found = file.stat()
    if fault := _fault(file, found.st_size, found.st_mtime_ns):
        raise ModelError(f"{file}: it is no tokenizer file, it may be damaged ({fault})")


@lru_cache(maxsize=16)
def _fault(file: Path, size: int, changed: int) -> str | None:
    """The error of a ``tokenizer.json``, cached because large ones take a second to parse."""
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(file))
    except Exception as error:
        # The tokenizers library raises plain exceptions.
        return str(error)
    return None
