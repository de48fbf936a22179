"""Optional dependencies of parts, and parts that exclude each other: both are checked before anything is fetched."""

from __future__ import annotations

from importlib.util import find_spec

from pixelsmith.config.parts import Parts
from pixelsmith.errors import MissingPartError, ModelError


def check_parts(parts: Parts) -> None:
    """Raise ``MissingPartError`` without a library that they need, ``ModelError`` for a network that is to be quantised
    and is so already.
    """
    gguf = parts.network is not None and parts.network.endswith(".gguf")
    if gguf and parts.quantize:
        raise ModelError(f"{parts.network}: it is quantised already; leave out --quantize {parts.quantize}")
    for used, what, library in ((parts.quantize, "--quantize", "torchao"), (gguf, f"{parts.network}", "gguf")):
        if used and find_spec(library) is None:
            raise MissingPartError(
                f"{what} needs {library}, which is not installed: pip install 'pixelsmith[quantized]'"
            )
