"""What parts need that is not in every install, and what cannot be together: told before anything is fetched."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pixelsmith.errors import MissingPartError, ModelError
from pixelsmith.families.find import config_folder, with_few_steps
from pixelsmith.parts import Parts

_LORA = "LoRA (--preset fast adds that of a model that has one, --no-few-steps leaves it out)"


def check_parts(place: Path, parts: Parts) -> None:
    """Of a model whose configuration was found.

    Raises ``MissingPartError`` without a library that they need, ``ModelError`` for a quantised network that is to be
    quantised.
    """
    loras = with_few_steps(config_folder(place, parts), parts).loras
    gguf = parts.network is not None and parts.network.endswith(".gguf")
    if gguf and parts.quantize:
        raise ModelError(f"{parts.network}: it is quantised already; leave out --quantize {parts.quantize}")
    for used, what, library, extra in (
        (loras, _LORA, "peft", "lora"),
        (parts.quantize, "--quantize", "torchao", "quantized"),
        (gguf, f"{parts.network}", "gguf", "quantized"),
    ):
        if used and find_spec(library) is None:
            raise MissingPartError(f"{what} needs {library}, which is not installed: pip install 'pixelsmith[{extra}]'")
