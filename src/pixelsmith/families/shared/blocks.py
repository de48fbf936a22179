"""The residuals that ControlNets add to the blocks of a transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def added(
    residuals: Sequence[Sequence[Tensor] | None], block_of: Callable[[int, int], int], blocks: int
) -> list[Tensor] | None:
    """The sum of several ControlNets' residuals for each of ``blocks`` blocks; ``None`` if there are none.

    A ControlNet has fewer blocks than its network. ``block_of``: which of its ``count`` blocks is for block ``i``, of
    ``(i, count)``.
    """
    said = [one for one in residuals if one]
    if not said:
        return None
    return [torch.stack([one[block_of(i, len(one))] for one in said]).sum(0) for i in range(blocks)]
