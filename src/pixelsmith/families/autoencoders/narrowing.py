"""Narrowing: crop the context of a tile layer by layer, as soon as no later layer depends on it.

A tile is decoded with a context of the decoder's whole receptive field. Its last layers, which have the most pixels,
need little of it; with the rest cropped, a tile costs hardly more than its kept part, whose pixels are unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pixelsmith.geometry import Window

Margins = tuple[int, int, int, int]
"""The context above, left of, below and right of the kept part."""


def context_of(config: Mapping[str, Any]) -> int:
    """The receptive field in latents on each side of an ``AutoencoderDC`` of residual blocks with this configuration.

    From the full resolution down, each level adds two pixels for each of its blocks (two convolutions of 3x3), and one
    for the convolution that changes the resolution, at the coarser side; the innermost convolution adds one latent.
    """
    return max(_sees(config[f"{part}_layers_per_block"]) for part in ("encoder", "decoder"))


def _sees(layers: Sequence[int]) -> int:
    finest, *coarser = layers
    # If the finest level has blocks it also has its own convolution, otherwise the next level's one upsamples.
    seen = 2 * finest + (finest > 0)
    for blocks in coarser:
        seen = -(-seen // 2) + 1 + 2 * blocks
    return seen + 1


@dataclass(frozen=True)
class _Layer:
    """A part of a decoder: its scale factor, and the context in its input that it and all later parts need."""

    module: nn.Module
    factor: int
    needs: int


class Narrowing:
    """Runs the decoder of an ``AutoencoderDC`` of residual blocks and crops context that is no longer needed."""

    def __init__(self, decoder: Any) -> None:
        parts = [part for block in reversed(decoder.up_blocks) for part in block] + [decoder.conv_out]
        self._layers: list[_Layer] = []
        needs = 0
        for part in reversed(parts):
            factor = getattr(part, "factor", 1)
            needs = -(-needs // factor) + _reach(part)
            self._layers.insert(0, _Layer(part, factor, needs))
        self._scale = math.prod(layer.factor for layer in self._layers)

    def __call__(self, decode: Callable[[Tensor], Tensor], tile: Tensor, kept: Window) -> Tensor:
        """The pixels of a decoded tile (b, c, h, w); those that were cropped, all outside ``kept``, are 0."""
        height, width = tile.shape[-2:]
        margins = [(kept.top, kept.left, height - kept.bottom, width - kept.right)]
        hooks = [layer.module.register_forward_pre_hook(_narrowed_by(layer, margins)) for layer in self._layers]
        try:
            pixels = decode(tile)
        finally:
            for hook in hooks:
                hook.remove()
        whole = pixels.new_zeros(*pixels.shape[:2], height * self._scale, width * self._scale)
        top, left = kept.top * self._scale - margins[-1][0], kept.left * self._scale - margins[-1][1]
        whole[..., top : top + pixels.shape[-2], left : left + pixels.shape[-1]] = pixels
        return whole


def _narrowed_by(layer: _Layer, margins: list[Margins]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    """A hook that crops the last margins to what the layer needs, and appends the margins after the layer."""

    def narrow(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
        above, before, below, after = (max(0, margin - layer.needs) for margin in margins[-1])
        top, left, bottom, right = (layer.factor * min(margin, layer.needs) for margin in margins[-1])
        margins.append((top, left, bottom, right))
        x = inputs[0]
        x = x[..., above : x.shape[-2] - below, before : x.shape[-1] - after]
        # A cropped tensor is not contiguous.
        return (x.contiguous(memory_format=torch.channels_last),)

    return narrow


def _reach(module: nn.Module) -> int:
    """The receptive field of a part: the sum over its convolutions, which are sequential."""
    return sum(layer.kernel_size[0] // 2 for layer in module.modules() if isinstance(layer, nn.Conv2d))
