"""Networks with quantised weights."""

from __future__ import annotations

from typing import Any

from pixelsmith.config.parts import Parts
from pixelsmith.errors import ModelError


def is_quantised(network: Any) -> bool:
    """Whether diffusers loaded a quantised network: from a GGUF file, or a folder that declares its quantisation."""
    return getattr(network, "hf_quantizer", None) is not None


def quantize(network: Any, parts: Parts, model: str) -> None:
    """Quantise a network's linear layers to the requested format, after LoRAs were fused.

    Raises ``ModelError`` for a network that is quantised already.
    """
    if parts.quantize is None:
        return
    if is_quantised(network):
        raise ModelError(f"{model}: its network is quantised already; leave out --quantize {parts.quantize}")
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    quantize_(network, {"int8": Int8WeightOnlyConfig, "float8": Float8WeightOnlyConfig}[parts.quantize]())
