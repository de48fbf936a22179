"""A network in one file with blocks of a few bits, as people share large transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from gguf.quants import quantize

BLOCK = 32
"""Numbers that share a scale in Q8_0."""


def save_gguf(network: Any, file: Path) -> Path:
    """Its matrices in 8 bits where their rows are whole blocks; all else in float32."""
    writer = gguf.GGUFWriter(file, "flux")
    for name, value in network.state_dict().items():
        fits = value.ndim == 2 and value.shape[1] % BLOCK == 0
        kind = gguf.GGMLQuantizationType.Q8_0 if fits else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(value.float().numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
