"""The size of the weights of a model's parts, from the headers of their files alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsmith.families.loading.model_files import read_json, shapes_in

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True)
class WeightCounts:
    """``parameters``: numbers converted to a run's dtype; ``quantised_bytes``: bytes of weights that stay as stored."""

    parameters: int = 0
    quantised_bytes: int = 0

    def __add__(self, other: WeightCounts) -> WeightCounts:
        return WeightCounts(self.parameters + other.parameters, self.quantised_bytes + other.quantised_bytes)


def variant_in(folder: Path, variant: str | None, allow_pickle: bool = False) -> str | None:
    """The variant, if a part's folder has weight files of it, otherwise ``None``, which means the plain ones."""
    return variant if variant in variants_in(folder, allow_pickle) else None


def variants_in(folder: Path, allow_pickle: bool = False) -> set[str | None]:
    """The variants of the weight files in a part's folder; ``None`` means the plain ones."""
    return {_variant(path) for path in _all_weights(folder, allow_pickle) if not is_index(path)}


def pickles_in(folder: Path, variant: str | None) -> list[Path]:
    """The weight files of a part's folder that can run any code."""
    return [path for path in weight_files(folder, variant, allow_pickle=True) if path.suffix in _PICKLES]


def weight_files(folder: Path, variant: str | None, allow_pickle: bool = False) -> list[Path]:
    """The weight files to load from a part's folder: one file, or several shards and their index."""
    taken = variant_in(folder, variant, allow_pickle)
    return [path for path in _all_weights(folder, allow_pickle) if _variant(path) == taken]


def weights_of(source: Path, variant: str | None) -> WeightCounts:
    """The weights of a file, or of a part's folder in the variant, if it exists."""
    if source.suffix == ".gguf":
        return WeightCounts(quantised_bytes=source.stat().st_size if source.is_file() else 0)
    if not source.is_dir():
        return WeightCounts(_numbers_in(source))
    files = [file for file in weight_files(source, variant) if file.suffix == ".safetensors"]
    if "quantization_config" in _config(source):
        return WeightCounts(quantised_bytes=sum(file.stat().st_size for file in files))
    return WeightCounts(sum(map(_numbers_in, files)))


def _numbers_in(file: Path) -> int:
    return sum(map(math.prod, shapes_in(file).values()))


def _all_weights(folder: Path, allow_pickle: bool) -> list[Path]:
    """The weight files of all variants, with the indices of shards."""
    kinds = (".safetensors", *(_PICKLES if allow_pickle else ()))
    found = (path for path in sorted(folder.glob("*model*")) if path.is_file())
    return [path for path in found if path.suffix in kinds or is_index(path)]


def is_index(path: Path) -> bool:
    """Whether a file is an index of shards."""
    return ".index." in path.name


def _variant(path: Path) -> str | None:
    """The variant of a weight file or an index: ``fp16`` for ``model.fp16-00001-of-00002.safetensors``."""
    named = [piece for piece in path.name.split(".")[1:-1] if piece not in ("safetensors", "bin", "index")]
    return named[0].split("-")[0] if named else None


def _config(folder: Path) -> dict[str, Any]:
    """The configuration of a part; empty for a tokenizer or a scheduler."""
    file = folder / "config.json"
    return read_json(file) if file.exists() else {}
