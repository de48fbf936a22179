"""Weights of a network that differ between the base and the stages."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class StageWeights:
    """The weights of ``network`` that LoRAs change in the stages alone. It has those of the stages at first.

    ``base``: those of the base by name. The ones that the network does not use are kept in the host's memory. They are
    exchanged, rather than added and subtracted again, so that rounding does not depend on what was made before.
    """

    def __init__(self, network: nn.Module, base: Mapping[str, Tensor]) -> None:
        self._network, self._others, self._in_stages = network, dict(base), True

    def use(self, in_stages: bool) -> None:
        """Have the network use the weights of the stages, or those of the base."""
        if in_stages == self._in_stages:
            return
        weights = {name: weight for name, weight in self._network.named_parameters() if name in self._others}
        with torch.no_grad():
            for name, weight in weights.items():
                kept = weight.to("cpu", copy=True)
                weight.copy_(self._others[name])
                self._others[name] = kept
        self._in_stages = in_stages
