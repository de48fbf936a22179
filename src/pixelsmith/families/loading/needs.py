"""Checks, before anything is fetched, of optional dependencies and of parts that exclude each other."""

from __future__ import annotations

from importlib.util import find_spec

from pixelsmith.config.parts import Parts
from pixelsmith.errors import MissingPartError, ModelError


def check_parts(parts: Parts) -> None:
    """Raise ``MissingPartError`` if a library is missing, ``ModelError`` if the network is quantised already and is to
    be quantised.
    """
    gguf = parts.network is not None and parts.network.endswith(".gguf")
    if gguf and parts.quantize:
        raise ModelError(f"{parts.network}: it is quantised already; leave out --quantize {parts.quantize}")
    needed = (
        (parts.quantize, "--quantize", "torchao", "quantized"),
        (gguf, f"{parts.network}", "gguf", "quantized"),
        (parts.upsampler, "--upsampler", "spandrel", "upsampler"),
    )
    for used, what, library, extra in needed:
        if used and find_spec(library) is None:
            raise MissingPartError(f"{what} needs {library}, which is not installed: pip install 'pixelsmith[{extra}]'")
