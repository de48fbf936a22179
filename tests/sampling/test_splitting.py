from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.sampling.schedule import Level
from pixelsmith.sampling.splitting import Splitting

LEVEL = Level(0.6, 0.8, 500, 0.5)


@dataclass
class Small:
    """A denoiser on a device with room for so many patches. Each patch is told where it lies."""

    room: int
    calls: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        assert len(x) == len(windows)
        self.calls.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return x + torch.tensor([float(window.left) for window in windows]).view(-1, 1, 1, 1)


def batch(count: int) -> tuple[Tensor, list[Window]]:
    return torch.randn(count, 4, 8, 8), [Window(0, 8 * i, 8, 8) for i in range(count)]


@pytest.mark.parametrize(("room", "heard"), [(8, []), (5, [4]), (3, [4, 2]), (1, [4, 2, 1])])
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_nothing_is_lost(room: int, heard: list[int]) -> None:
    x, windows = batch(8)
    small, told = Small(room), list[int]()
    splitting = Splitting(small, told.append)
    expected = Small(8)(x, LEVEL, windows)
    assert torch.equal(splitting(x, LEVEL, windows), expected)
    assert told == heard
    small.calls.clear()
    assert torch.equal(splitting(x, LEVEL, windows), expected)
    assert told == heard, "it is said once"
    assert max(small.calls) <= room, "what did not fit is not tried again"


def test_one_patch_that_does_not_fit_is_an_error() -> None:
    x, windows = batch(2)
    with pytest.raises(torch.OutOfMemoryError):
        Splitting(Small(0), lambda size: None)(x, LEVEL, windows)
