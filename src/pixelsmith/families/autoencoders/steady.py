"""Make a network with group normalisation treat all tiles of a picture alike.

Group normalisation takes mean and variance over the whole input; over a tile they differ from tile to tile, which
shows as jumps of tone. So: let some samples of the picture through, remember each layer's statistics, and normalise
every tile by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

Moments = list[tuple[Tensor, Tensor]]


class Seen(NamedTuple):
    """Of one group norm: mean and variance of its groups in each sample, and in which order its results lay."""

    moments: Moments
    order: torch.memory_format


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]


@contextmanager
def steady(network: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]) -> Iterator[None]:
    """While open, the group norms of ``network`` use their statistics over all ``samples`` put to ``forward``."""
    with held(network, statistics_of(network, forward, samples)):
        yield


def statistics_of(network: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]) -> Sequence[Seen]:
    """What each group norm, in order, made of the samples put to ``forward``."""
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
    """While open, the group norms of ``network`` use these statistics, which may be those of another device."""
    layers = zip(group_norms(network), statistics, strict=True)
    with _computing({layer: _normalised_by(seen, layer) for layer, seen in layers}):
        yield


@contextmanager
def _computing(functions: Mapping[nn.GroupNorm, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """While open, these layers compute something else instead of what they do, which takes no time then.

    What moves an offloaded layer's weights to its device does so in its forward as well, and is not needed either.
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
    """In which order a layer's result lies in memory: how a convolution after it rounds depends on that."""
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
        # In float32, and in one copy of what are the largest activations of all.
        values = (x - mean.view(shape)).mul_(scale.view(shape)).add_(bias.view(shape)).to(x.dtype)
        return values.contiguous(memory_format=seen.order)

    return normalise


def _affine(layer: nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias, copied in float32: offloaded ones are on the device only while the layer itself computes."""
    from accelerate.utils import align_module_device

    with align_module_device(layer):
        return layer.weight.detach().float().clone(), layer.bias.detach().float().clone()


def _grouped(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """(b, c, ...) as (b, groups, values of a group), float32."""
    return x.float().reshape(len(x), layer.num_groups, -1)


def _remove(hooks: list[torch.utils.hooks.RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()
