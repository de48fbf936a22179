"""Read one part of a model from a folder or a single file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pixelsmith.errors import ModelError
from pixelsmith.families.find import read_json


def read_part(source: Path, name: str, folder: Path, dtype: torch.dtype) -> Any:
    """The part ``name`` of the model whose configuration is in ``folder``. Raises ``ModelError``."""
    import diffusers

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if source == folder / name:
        return diffusers.AutoModel.from_pretrained(str(folder), subfolder=name, use_safetensors=True, **options)
    if source.is_dir():
        return diffusers.AutoModel.from_pretrained(str(source), use_safetensors=True, **options)
    if source.suffix == ".gguf":
        options["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    kind = getattr(diffusers, read_json(folder / "model_index.json")[name][1])
    if not hasattr(kind, "from_single_file"):
        raise ModelError(f"{source}: a {kind.__name__} is not read from one file; give a folder")
    try:
        return kind.from_single_file(str(source), config=str(folder), subfolder=name, **options)
    except Exception as error:
        # Converters look for the names and shapes that they know, and fail in many ways.
        raise ModelError(f"{source}: it is no {name} of this model: {type(error).__name__}: {error}") from error
