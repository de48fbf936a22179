"""How much the weights of a model's parts take, from the headers of their files alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsmith.families.find import read_json

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
MAX_HEADER = 100_000_000
"""Bytes; the format allows no longer ones."""


@dataclass(frozen=True)
class Weights:
    """``parameters``: numbers that are loaded in a run's dtype; ``quantised_bytes``: of those that stay as they are."""

    parameters: int = 0
    quantised_bytes: int = 0

    def __add__(self, other: Weights) -> Weights:
        return Weights(self.parameters + other.parameters, self.quantised_bytes + other.quantised_bytes)


def variant_in(folder: Path, variant: str | None, allow_pickle: bool = False) -> str | None:
    """The variant where a part's folder has weight files of it; ``None`` stands for the plain ones."""
    return variant if variant in variants_in(folder, allow_pickle) else None


def variants_in(folder: Path, allow_pickle: bool = False) -> set[str | None]:
    """The variants that a part's folder has weight files of; ``None`` stands for the plain ones."""
    return {_variant(path) for path in _all_weights(folder, allow_pickle) if not is_index(path)}


def weight_files(folder: Path, variant: str | None, allow_pickle: bool = False) -> list[Path]:
    """What is read of a part's folder, one file or several shards and their index."""
    taken = variant_in(folder, variant, allow_pickle)
    return [path for path in _all_weights(folder, allow_pickle) if _variant(path) == taken]


def weights_of(source: Path, variant: str | None) -> Weights:
    """Of a file, or of a part's folder: of the variant where it has it."""
    if source.suffix == ".gguf":
        return Weights(quantised_bytes=source.stat().st_size if source.is_file() else 0)
    if not source.is_dir():
        return Weights(_numbers_in(source))
    files = [file for file in weight_files(source, variant) if file.suffix == ".safetensors"]
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


def _all_weights(folder: Path, allow_pickle: bool) -> list[Path]:
    """Of every variant, with the indices of shards."""
    kinds = (".safetensors", *(_PICKLES if allow_pickle else ()))
    return [path for path in sorted(folder.glob("*model*")) if path.suffix in kinds or is_index(path)]


def is_index(path: Path) -> bool:
    """Whether a file tells which shard has which weights."""
    return ".index." in path.name


def _variant(path: Path) -> str | None:
    """Of a weight file or its index: ``fp16`` of ``model.fp16-00001-of-00002.safetensors``."""
    named = [piece for piece in path.name.split(".")[1:-1] if piece not in ("safetensors", "bin", "index")]
    return named[0].split("-")[0] if named else None


def _config(folder: Path) -> dict[str, Any]:
    """Of a tokenizer or a scheduler none."""
    file = folder / "config.json"
    return read_json(file) if file.exists() else {}
