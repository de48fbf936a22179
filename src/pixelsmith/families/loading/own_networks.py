"""The small networks that a model's ``pixelsmith.json`` names, in the format of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pixelsmith.config.parts import Parts, located
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.loading.find import OWN
from pixelsmith.families.loading.model_files import read_json
from pixelsmith.families.loading.quiet import quiet


def own_network_of(folder: Path, parts: Parts, name: str) -> Path | None:
    """The folder of a model's network of this name, if it has one and its own autoencoder is used.

    Raises ``ModelError`` if the folder named by the model does not exist.
    """
    own = (read_json(folder / OWN) if (folder / OWN).exists() else {}).get(name)
    if own is None or parts.vae is not None:
        return None
    place = Path(located(str(own), folder))
    if not (place / "config.json").is_file():
        raise ModelError(f"{folder / OWN}: {name}: expected a folder with a config.json, got {own}")
    return place


def load_own_network(kind: Any, what: str, place: Path, dtype: torch.dtype) -> Any:
    """Load a network of a class of diffusers; ``what`` is its name in messages. Raises ``ModelError``."""
    try:
        with quiet():
            model, report = kind.from_pretrained(
                place, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except Exception as error:
        # Each library raises its own errors for damaged files.
        raise ModelError(f"{place}: the {what} cannot be loaded: {reason_of(error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{place}: the {what} lacks {len(missing)} weights, such as {missing[0]}")
    return model.eval()
