"""Initialise an autoencoder with its best linear map, the principal components of blocks of 8x8 pixels.

Learning that map by gradient descent takes the first hour of a training on two cores. An ``AutoencoderDC`` can
represent it: its convolutions pass pixels through the centres of their kernels in the order of ``pixel_unshuffle``, its
residual blocks begin as identities, and the output of its shortcuts is linear, so it can be subtracted.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderDC
from torch import Tensor, nn

LARGE = 100.0
"""A constant that is large compared with pixels, so that the decoder's last normalisation only divides by it."""
COMPONENTS_OF_4X4 = 32


@torch.no_grad()
def start_linear(model: AutoencoderDC, pixels: Tensor) -> None:
    """Initialise a model of ``training.autoencoder`` with the principal components of pixels (n, 3, H, W), in -1..1.

    Components are scaled such that each has the square root of its standard deviation, with a mean of 1.
    """
    for part in (*model.encoder.modules(), *model.decoder.modules()):
        if type(part).__name__ == "ResBlock":
            nn.init.zeros_(part.norm.weight)
            nn.init.zeros_(part.norm.bias)
    coarse, blocks = (_rows(_unshuffled(pixels, times)) for times in (2, 3))
    mean, spread, components = _principal(blocks, model.config.latent_channels)
    scale = spread.rsqrt() / spread.mean().sqrt()
    _start_encoder(model.encoder, pixels, coarse, (blocks - mean) @ components * scale)
    _start_decoder(model.decoder, mean, components / scale)


def _start_encoder(encoder: Any, pixels: Tensor, coarse: Tensor, latents: Tensor) -> None:
    half, quarter, eighth = (encoder.conv_in, *(block[-1] for block in encoder.down_blocks[1:3]))
    _set(half.conv, torch.eye(3))
    _set(quarter.conv, torch.eye(12))
    features = quarter(half(pixels))
    mean, _, components = _principal(coarse, COMPONENTS_OF_4X4)
    _set(eighth.conv, *_solved(_rows(features), (coarse - mean) @ components))
    features = eighth(features)
    shortcut = _rows(features.unflatten(1, (latents.shape[1], -1)).mean(dim=2))
    _set(encoder.conv_out, *_solved(_rows(features), latents - shortcut))


def _start_decoder(decoder: Any, mean: Tensor, components: Tensor) -> None:
    quarter, half = decoder.up_blocks[2][0], decoder.up_blocks[1][0]
    channels, latent_channels = decoder.conv_in.weight.shape[:2]
    repeated = torch.eye(latent_channels).repeat_interleave(channels // latent_channels, 0)
    _set(decoder.conv_in, _padded(torch.eye(latent_channels), repeated.shape) - repeated)
    _set(quarter.conv, _padded(components, quarter.conv.weight.shape[:2]) - _shortcut_of(quarter), mean)
    # Positive and negative parts separately, because of the last activation.
    both = torch.cat([torch.eye(48), -torch.eye(48)])
    constant = torch.zeros(len(half.conv.weight))
    constant[-4:] = LARGE
    _set(half.conv, _padded(both, half.conv.weight.shape[:2]) - _shortcut_of(half), constant)
    nn.init.constant_(decoder.norm_out.weight, LARGE / len(decoder.norm_out.weight) ** 0.5)
    nn.init.zeros_(decoder.norm_out.bias)
    _set(decoder.conv_out.conv, torch.cat([torch.eye(12), -torch.eye(12)], 1))


def _shortcut_of(block: Any) -> Tensor:
    """The shortcut of an upsampling block as a matrix (out, in)."""
    return torch.eye(block.conv.weight.shape[1]).repeat_interleave(block.repeats, 0)


def _set(convolution: nn.Conv2d, matrix: Tensor, bias: Tensor | None = None) -> None:
    """Set a convolution to a matrix (out, in) at its centre and zeros elsewhere."""
    nn.init.zeros_(convolution.weight)
    convolution.weight[: matrix.shape[0], : matrix.shape[1], 1, 1] = matrix
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
        if bias is not None:
            convolution.bias[: len(bias)] = bias


def _padded(matrix: Tensor, shape: torch.Size) -> Tensor:
    return F.pad(matrix, (0, shape[1] - matrix.shape[1], 0, shape[0] - matrix.shape[0]))


def _unshuffled(pixels: Tensor, times: int) -> Tensor:
    for _ in range(times):
        pixels = F.pixel_unshuffle(pixels, 2)
    return pixels


def _rows(features: Tensor) -> Tensor:
    """(n, c, h, w) to (n * h * w, c)."""
    return features.movedim(1, -1).flatten(0, 2)


def _principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (c,), standard deviations (count,) and directions (c, count) of the largest components."""
    mean = rows.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov((rows - mean).double().T))
    return mean, variances[-count:].flip(0).sqrt().float(), directions[:, -count:].flip(1).float()


def _solved(features: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The matrix (out, in) and bias (out,) that map features to targets, by least squares."""
    ones = F.pad(features, (0, 1), value=1.0).double()
    found = torch.linalg.lstsq(ones, wanted.double(), driver="gelsd").solution.float().T
    return found[:, :-1], found[:, -1]
