"""Loading one part of a model from a folder or a single file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.loading.find import classes_in
from pixelsmith.families.loading.weights import variant_in


def read_part(source: Path, name: str, folder: Path, dtype: torch.dtype, parts: Parts) -> Any:
    """The part ``name`` of the model whose configuration is in ``folder``. Raises ``ModelError``."""
    import diffusers

    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True}
    if source.is_dir():
        options["variant"] = variant_in(source, parts.variant, parts.allow_pickle)
        options["use_safetensors"] = None if parts.allow_pickle else True
        # The index next to a model's own part contains its library.
        root, subfolder = (folder, name) if source == folder / name else (source, None)
        return diffusers.AutoModel.from_pretrained(str(root), subfolder=subfolder, **options)
    if source.suffix == ".gguf":
        options["quantization_config"] = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    kind = getattr(diffusers, classes_in(folder)[name])
    if not hasattr(kind, "from_single_file"):
        raise ModelError(f"{source}: a {kind.__name__} is not read from one file; give a folder")
    try:
        return kind.from_single_file(str(source), config=str(folder), subfolder=name, **options)
    except Exception as error:
        # Converters raise various errors for unknown names and shapes.
        raise ModelError(f"{source}: it is no {name} of this model: {reason_of(error)}") from error
