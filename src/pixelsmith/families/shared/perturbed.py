"""The network with some blocks degraded on purpose, to guide away from it.

A block skipped or an attention replaced is another ``forward`` of that module for the time of one call. It is known of
blocks that are called and answer as those of ``Traits.perturbable`` families do.
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
    """A denoiser whose network has other ``forwards`` while it is called."""

    denoiser: Denoiser
    forwards: Forwards

    def __call__(self, x: Batch, level: Level, windows: Sequence[Window]) -> Batch:
        with replaced(self.forwards):
            return self.denoiser(x, level, windows)


@contextmanager
def replaced(forwards: Forwards) -> Iterator[None]:
    """While open, these modules compute something else."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, before in own.items():
            # A module that is loaded only while it works has a forward of its own beside that of its class.
            if before is None:
                del module.forward
            else:
                module.forward = before


def forwards_of(network: Any, perturbation: Perturbation) -> Forwards:
    """What the perturbed network computes otherwise.

    Raises ``RequestError`` where it has no such layers.
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
    # As methods: a compiled network knows them again.
    if perturbation.name == "slg":
        return {block: MethodType(_skipped, block) for block in chosen}
    return {part: MethodType(_identity, part) for block in chosen for part in _self_attentions(block)}


def usual_layers(name: PerturbationName, count: int, in_unet: bool) -> Sequence[int]:
    """Of ``count`` blocks: of the middle of a U-Net all, of a transformer the middle one.

    Three are skipped from 0.3 of the depth on: 7, 8 and 9 of 24, as Stable Diffusion 3.5 medium recommends.
    """
    if in_unet:
        return range(count)
    if name == "pag":
        return [count // 2]
    first = round(0.3 * count)
    return range(first, min(first + 3, count))


def _blocks(network: Any) -> list[nn.Module]:
    """Of a transformer, or of the middle of a U-Net; some have none."""
    if hasattr(network, "mid_block"):
        attentions = getattr(network.mid_block, "attentions", ())
        return [block for attention in attentions for block in getattr(attention, "transformer_blocks", ())]
    return list(getattr(network, "transformer_blocks", ()))


def _self_attentions(block: nn.Module) -> list[nn.Module]:
    from diffusers.models.attention_processor import Attention

    return [part for part in block.modules() if isinstance(part, Attention) and not part.is_cross_attention]


def _skipped(block: Any, hidden_states: Tensor, *_: Any, encoder_hidden_states: Tensor | None = None, **__: Any) -> Any:
    """What comes in goes out; blocks that also change the text give it back first."""
    from diffusers.models.attention import JointTransformerBlock

    return (encoder_hidden_states, hidden_states) if isinstance(block, JointTransformerBlock) else hidden_states


def _identity(attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any) -> Any:
    """Self-attention whose map is the identity among image tokens; text that they attend to with them stays.

    Raises ``RequestError`` where the attention is computed in a way that cannot be masked.
    """
    if encoder_hidden_states is not None:
        with _Apart(hidden_states.shape[1]) as apart:
            found = attention.processor(attention, hidden_states, encoder_hidden_states, **others)
        if not apart.masked:
            raise RequestError("perturbation: pag needs PyTorch's own attention; the network is set to another one")
        return found
    values = attention.to_v(hidden_states)
    for layer in attention.to_out:
        values = layer(values)
    return values


class _Apart(TorchFunctionMode):
    """While open, the first ``images`` tokens of every attention see of each other only themselves.

    ``masked``: how many attentions it met.
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
        tokens, device = args[0].shape[-2], args[0].device
        seen = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
        seen[: self._images, : self._images] = torch.eye(self._images, dtype=torch.bool, device=device)
        return called(attn_mask=seen)
