"""Make a network with group normalisation treat all tiles of a picture alike.

Group normalisation takes mean and variance over the whole input; over a tile they differ from tile to tile, which
shows as jumps of tone. So: let some samples of the picture through, remember each layer's statistics, and normalise
every tile by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Moments = list[tuple[Tensor, Tensor]]


def group_norms(network: nn.Module) -> list[nn.GroupNorm]:
    return [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]


@contextmanager
def steady(network: nn.Module, forward: Callable[[Tensor], object], samples: Iterable[Tensor]) -> Iterator[None]:
    """While open, the group norms of ``network`` use their statistics over all ``samples`` put to ``forward``."""
    layers = group_norms(network)
    seen: dict[nn.GroupNorm, Moments] = {layer: [] for layer in layers}

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.GroupNorm):
            variance, mean = torch.var_mean(_grouped(inputs[0], layer), (0, 2), correction=0)
            seen[layer].append((mean, variance))

    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    try:
        for sample in samples if layers else ():
            forward(sample)
    finally:
        _remove(hooks)
    hooks = [layer.register_forward_hook(_normalised_by(seen[layer], layer)) for layer in layers]
    try:
        yield
    finally:
        _remove(hooks)


def _normalised_by(moments: Moments, layer: nn.GroupNorm) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    means, variances = (torch.stack(values) for values in zip(*moments, strict=True))
    # Total variance: the mean of the samples' variances and the variance of their means.
    mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
    weight, bias = _affine(layer)
    channels = layer.num_channels // layer.num_groups
    mean = mean.repeat_interleave(channels)
    scale = (variance + layer.eps).rsqrt().repeat_interleave(channels) * weight

    def normalise(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (output.ndim - 2))
        # In float32, and in one copy of what are the largest activations of all.
        values = (inputs[0] - mean.view(shape)).mul_(scale.view(shape)).add_(bias.view(shape))
        return output.copy_(values)

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
