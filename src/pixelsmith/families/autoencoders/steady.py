"""Shared statistics of group normalisation for all tiles of a picture.

Group normalisation computes mean and variance over the whole input, so they differ between tiles, which is visible as
jumps of tone. Instead, each layer's statistics are measured on some samples of the picture and used for every tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

Moments = list[tuple[Tensor, Tensor]]


class Seen(NamedTuple):
    """The statistics of a group norm: mean and variance of its groups in each sample, and its output's layout."""

    moments: Moments
    order: torch.memory_format


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]


@contextmanager
def steady(network: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]) -> Iterator[None]:
    """In this context the group norms of ``network`` use their statistics over ``samples`` passed to ``forward``."""
    with held(network, statistics_of(network, forward, samples)):
        yield


def statistics_of(network: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]) -> Sequence[Seen]:
    """The statistics of each group norm, in order, over samples passed to ``forward``."""
    layers = group_norms(network)
    seen: dict[nn.GroupNorm, Moments] = {layer: [] for layer in layers}
    orders: dict[nn.GroupNorm, torch.memory_format] = {}

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.GroupNorm):
            variance, mean = torch.var_mean(_grouped(inputs[0], layer), (0, 2), correction=0)
            seen[layer].append((mean, variance))
            orders[layer] = _order_of(output)

    hooks = [layer.register_forward_hook(remember) for layer in layers]
    try:
        for sample in samples if layers else ():
            forward(sample)
    finally:
        _remove(hooks)
    return [Seen(seen[layer], orders[layer]) for layer in layers]


@contextmanager
def held(network: nn.Module, statistics: Sequence[Seen]) -> Iterator[None]:
    """In this context the group norms of ``network`` use these statistics, which may come from another device."""
    layers = zip(group_norms(network), statistics, strict=True)
    with _computing({layer: _normalised_by(seen, layer) for layer, seen in layers}):
        yield


@contextmanager
def _computing(functions: Mapping[nn.GroupNorm, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """In this context these layers compute other functions instead of their own.

    The hooks that move an offloaded layer's weights to its device in ``forward`` are bypassed too.
    """
    own = {layer: vars(layer).get("forward") for layer in functions}
    try:
        for layer, function in functions.items():
            vars(layer)["forward"] = function
        yield
    finally:
        for layer, forward in own.items():
            vars(layer).pop("forward")
            if forward is not None:
                vars(layer)["forward"] = forward


def _order_of(values: Tensor) -> torch.memory_format:
    """The memory format of a layer's output, on which the rounding of a following convolution depends."""
    last = values.ndim == 4 and values.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _normalised_by(seen: Seen, layer: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
    weight, bias = _affine(layer)
    means, variances = (torch.stack(values).to(weight.device) for values in zip(*seen.moments, strict=True))
    # Total variance: the mean of the samples' variances and the variance of their means.
    mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
    channels = layer.num_channels // layer.num_groups
    mean = mean.repeat_interleave(channels)
    scale = (variance + layer.eps).rsqrt().repeat_interleave(channels) * weight

    def normalise(x: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.ndim - 2))
        # In float32, with a single copy, because these are the largest activations.
        values = (x - mean.view(shape)).mul_(scale.view(shape)).add_(bias.view(shape)).to(x.dtype)
        return values.contiguous(memory_format=seen.order)

    return normalise


def _affine(layer: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Copies of weight and bias in float32: offloaded ones are on the device only in the layer's ``forward``."""
    from accelerate.utils import align_module_device

    with align_module_device(layer):
        return layer.weight.detach().float().clone(), layer.bias.detach().float().clone()


def _grouped(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """(b, c, ...) as (b, groups, values of a group), float32."""
    return x.float().reshape(len(x), layer.num_groups, -1)


def _remove(hooks: list[torch.utils.hooks.RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()
