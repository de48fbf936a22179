"""Packing of latents for transformers whose tokens are 2x2 latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor

Tokens = Float[Tensor, "b n d"]


def pack(x: Float[Tensor, "b c h w"]) -> Tokens:
    """Latents as tokens, row by row: each has the channels of 2x2 latents, (c, row, column) in turn."""
    b, c, h, w = x.shape
    return x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def unpack(tokens: Tokens, height: int, width: int) -> Float[Tensor, "b c h w"]:
    """The latents of tokens, on ``height`` rows and ``width`` columns."""
    b, _, d = tokens.shape
    grid = tokens.view(b, height // 2, width // 2, d // 4, 2, 2)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(b, d // 4, height, width)


def over_tokens(network: Callable[..., Any], x: Float[Tensor, "b c h w"], **told: Any) -> Float[Tensor, "b c h w"]:
    """Apply a network whose tokens are 2x2 latents to latents."""
    output = network(hidden_states=pack(x), **told, return_dict=False)[0]
    return unpack(output, *x.shape[2:])


def patchify(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
    """2x2 latents as one of four times the channels, (c, row, column) in turn."""
    return unpack_grid(pack(x), x.shape[2] // 2)


def unpatchify(x: Float[Tensor, "b d i j"]) -> Float[Tensor, "b c h w"]:
    """The inverse of ``patchify``."""
    return unpack(x.flatten(2).transpose(1, 2), 2 * x.shape[2], 2 * x.shape[3])


def unpack_grid(tokens: Tokens, rows: int) -> Float[Tensor, "b d i j"]:
    """Tokens on their grid, without taking them apart."""
    b, n, d = tokens.shape
    return tokens.transpose(1, 2).reshape(b, d, rows, n // rows)
