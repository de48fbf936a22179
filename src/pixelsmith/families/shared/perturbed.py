"""The perturbed network: some of its blocks are degraded on purpose, to guide away from its estimate.

A block is skipped, or its attention replaced, by another ``forward`` of the module during a call. This supports blocks
with the arguments and results of ``Traits.perturbable`` families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from pixelsmith.config.recommended import Perturbation, PerturbationName
from pixelsmith.errors import RequestError
from pixelsmith.geometry import Window
from pixelsmith.sampling.denoiser import Batch, Denoiser
from pixelsmith.sampling.schedule import Level

Forwards = Mapping[nn.Module, Callable[..., Any]]
"""Modules and the functions that replace their ``forward``."""


@dataclass(frozen=True)
class Perturbed:
    """A denoiser whose network has other ``forwards`` during a call."""

    denoiser: Denoiser
    forwards: Forwards

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        with replaced(self.forwards):
            return self.denoiser(x, level, windows)


@contextmanager
def replaced(forwards: Forwards) -> Iterator[None]:
    """In this context these modules have other ``forward`` functions."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, before in own.items():
            # An offloaded module has its own ``forward`` attribute, which loads its weights.
            if before is None:
                del module.forward
            else:
                module.forward = before


def forwards_of(network: Any, perturbation: Perturbation) -> Forwards:
    """The replaced functions of the perturbed network.

    Raises ``RequestError`` if the network has no such layers.
    """
    blocks = _blocks(network)
    if not blocks:
        raise RequestError(f"perturbation: a {type(network).__name__} has no blocks to perturb here; leave it out")
    layers = perturbation.layers or usual_layers(perturbation.name, len(blocks), in_unet=hasattr(network, "mid_block"))
    if not set(layers) <= set(range(len(blocks))):
        raise RequestError(
            f"perturbed layers: expected numbers from 0 to {len(blocks) - 1}, got {', '.join(map(str, layers))}"
        )
    chosen = [blocks[layer] for layer in layers]
    # They are bound methods, so that a compiled network recognises them and is not compiled again.
    if perturbation.name == "slg":
        return {block: MethodType(_skipped, block) for block in chosen}
    return {part: MethodType(_identity, part) for block in chosen for part in _self_attentions(block)}


def usual_layers(name: PerturbationName, count: int, in_unet: bool) -> Sequence[int]:
    """The default blocks of ``count``: all of a U-Net's middle, or the middle one of a transformer.

    Skip-layer guidance takes three from 0.3 of the depth on: 7, 8 and 9 of 24, as recommended for Stable Diffusion 3.5
    medium.
    """
    if in_unet:
        return range(count)
    if name == "pag":
        return [count // 2]
    first = round(0.3 * count)
    return range(first, min(first + 3, count))


def _blocks(network: Any) -> list[nn.Module]:
    """The blocks of a transformer, or of the middle of a U-Net, which may have none."""
    if hasattr(network, "mid_block"):
        attentions = getattr(network.mid_block, "attentions", ())
        return [block for attention in attentions for block in getattr(attention, "transformer_blocks", ())]
    return list(getattr(network, "transformer_blocks", ()))


def _self_attentions(block: nn.Module) -> list[nn.Module]:
    from diffusers.models.attention_processor import Attention

    return [part for part in block.modules() if isinstance(part, Attention) and not part.is_cross_attention]


def _skipped(block: Any, hidden_states: Tensor, *_: Any, encoder_hidden_states: Tensor | None = None, **__: Any) -> Any:
    """Return the input; blocks that also change the text return that first."""
    from diffusers.models.attention import JointTransformerBlock

    return (encoder_hidden_states, hidden_states) if isinstance(block, JointTransformerBlock) else hidden_states


def _identity(attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any) -> Any:
    """Self-attention with the identity as the attention map among image tokens; attention to text is unchanged.

    Raises ``RequestError`` if the attention backend cannot be masked.
    """
    if encoder_hidden_states is not None:
        with _Apart(hidden_states.shape[1]) as apart:
            found = attention.processor(attention, hidden_states, encoder_hidden_states, **others)
        if not apart.masked:
            raise RequestError("perturbation: pag needs PyTorch's own attention; the network uses another backend")
        return found
    values = attention.to_v(hidden_states)
    for layer in attention.to_out:
        values = layer(values)
    return values


class _Apart(TorchFunctionMode):
    """In this context each of the first ``images`` tokens of an attention attends to no other one of these.

    ``masked``: the number of attentions that were called.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self._images = images
        self.masked = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        called = partial(func, *args, **(kwargs or {}))
        if func is not scaled_dot_product_attention:
            return called()
        self.masked += 1
        (queries, keys), device = (values.shape[-2] for values in args[:2]), args[0].device
        seen = torch.ones(queries, keys, dtype=torch.bool, device=device)
        seen[: self._images, : self._images] = torch.eye(self._images, dtype=torch.bool, device=device)
        return called(attn_mask=seen)
