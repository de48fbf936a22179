"""How much the weights of a model's parts take, from the headers of their files alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER = 100_000_000
"""Bytes; the format allows no longer ones."""


@dataclass(frozen=True)
class Weights:
    """``parameters``: numbers that are loaded in a run's dtype; ``quantised_bytes``: of those that stay as they are."""

    parameters: int = 0
    quantised_bytes: int = 0

    def __add__(self, other: Weights) -> Weights:
        return Weights(self.parameters + other.parameters, self.quantised_bytes + other.quantised_bytes)


def weights_of(source: Path, variant: str | None) -> Weights:
    """Of a file, or of a part's folder: of the variant where it has it."""
    if source.suffix == ".gguf":
        return Weights(quantised_bytes=source.stat().st_size if source.is_file() else 0)
    if not source.is_dir():
        return Weights(_numbers_in(source))
    files = _weight_files(source, variant)
    if "quantization_config" in _config(source):
        return Weights(quantised_bytes=sum(file.stat().st_size for file in files))
    return Weights(sum(map(_numbers_in, files)))


def tensors_of(file: Path) -> dict[str, Any]:
    """The header of a ``.safetensors`` file: dtype and shape of its tensors by name. Empty where it cannot be read.

    The format begins with the header's length in 8 bytes.
    """
    if file.suffix != ".safetensors":
        return {}
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(min(int.from_bytes(opened.read(8), "little"), MAX_HEADER)))
    except (OSError, ValueError):
        # A damaged file is reported, with its name, by what loads it.
        return {}
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


def _numbers_in(file: Path) -> int:
    return sum(math.prod(tensor["shape"]) for tensor in tensors_of(file).values())


def _weight_files(folder: Path, variant: str | None) -> list[Path]:
    """The files of the variant where there are such, else the plain ones; one file or several shards."""
    files = [(path, path.name.split(".")[1:-1]) for path in folder.glob("*model*.safetensors")]
    chosen = [path for path, between in files if any(word.split("-")[0] == variant for word in between)]
    return chosen or [path for path, between in files if not between]


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
