"""The residuals that ControlNets add to the blocks of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

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
    # Blocks that take the same residuals share their sum, which is as large as a block's output.
    taken = [tuple(block_of(i, len(one)) for one in said) for i in range(blocks)]
    sums = {
        numbers: summed([one[number] for one, number in zip(said, numbers, strict=True)])
        for numbers in dict.fromkeys(taken)
    }
    return [sums[numbers] for numbers in taken]


def summed(values: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors; one alone is not copied."""
    return reduce(torch.add, values)
