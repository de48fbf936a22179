from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from pixelsmith import DeviceError
from pixelsmith.geometry import Window
from pixelsmith.sampling.schedule import Level
from pixelsmith.sampling.splitting import Splitting

LEVEL = Level(0.6, 0.8, 500, 0.5)


@dataclass
class Small:
    """A denoiser on a device with room for so many patches. Each patch is told where it lies."""

    room: int
    calls: list[int] = field(default_factory=list)
    error: RuntimeError = field(default_factory=lambda: torch.OutOfMemoryError("out of memory"))

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        assert len(x) == len(windows)
        self.calls.append(len(x))
        if len(x) > self.room:
            raise self.error
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
    with pytest.raises(DeviceError, match="no memory for one patch"):
        Splitting(Small(0), lambda size: None)(x, LEVEL, windows)


def test_a_device_that_says_in_words_alone_that_its_memory_ends_is_understood_and_no_other_error_is() -> None:
    x, windows = batch(4)
    apple = RuntimeError("MPS backend out of memory (MPS allocated: 17.10 GB, max allowed: 18.13 GB)")
    expected = Small(4)(x, LEVEL, windows)
    assert torch.equal(Splitting(Small(2, error=apple), lambda size: None)(x, LEVEL, windows), expected)
    with pytest.raises(RuntimeError, match="shapes differ"):
        Splitting(Small(2, error=RuntimeError("shapes differ")), lambda size: None)(x, LEVEL, windows)


@pytest.mark.parametrize("room", [8, 3])
def test_a_compiled_network_meets_one_batch_size_only(room: int) -> None:
    """Whatever a step leaves over; a size that does not fit and those above it apart."""
    small = Small(room)
    splitting = Splitting(small, lambda size: None, full=8)
    for count in (8, 5, 1, 3):
        x, windows = batch(count)
        assert torch.equal(splitting(x, LEVEL, windows), Small(8)(x, LEVEL, windows))
    assert {size for size in small.calls if size <= room} == {8 if room == 8 else 2}
