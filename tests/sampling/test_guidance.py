from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelsmith.geometry import Window
from pixelsmith.recommended import Recommended
from pixelsmith.request import Method
from pixelsmith.sampling.guidance import ClassifierFreeGuidance
from pixelsmith.sampling.schedule import Level

LEVEL = Level(0.6, 0.8, 500, 0.5)
WINDOWS = [Window(0, 0, 8, 8)] * 2


@dataclass
class Constant:
    """Always the same estimate; counts its calls."""

    estimate: Tensor
    calls: int = 0

    def __call__(self, x: Tensor, level: Level, windows: Sequence[Window]) -> Tensor:
        self.calls += 1
        return self.estimate


def pair() -> tuple[Constant, Constant, Tensor]:
    generator = torch.Generator().manual_seed(0)
    positive, negative, x = torch.randn(3, 2, 4, 8, 8, generator=generator)
    return Constant(positive), Constant(negative), x


def test_guidance_goes_from_the_negative_through_the_positive() -> None:
    positive, negative, x = pair()
    guided = ClassifierFreeGuidance(positive, negative, 3.0, 0.0, lambda _: True)(x, LEVEL, WINDOWS)
    torch.testing.assert_close(guided, negative.estimate + 3 * (positive.estimate - negative.estimate))


def test_outside_its_interval_the_negative_is_not_even_called() -> None:
    positive, negative, x = pair()
    method = Method(guidance_interval=(0.2, 0.5)).at(1, Recommended())
    guided = ClassifierFreeGuidance(positive, negative, 3.0, 0.0, method.guides_at)
    assert torch.equal(guided(x, LEVEL, WINDOWS), positive.estimate)
    assert negative.calls == 0
    guided(x, Level(0.6, 0.8, 500, 0.2), WINDOWS)
    assert negative.calls == 1


def test_full_rescale_gives_each_patch_the_spread_of_the_positive() -> None:
    positive, negative, x = pair()
    guided = ClassifierFreeGuidance(positive, negative, 7.5, 1.0, lambda _: True)(x, LEVEL, WINDOWS)
    torch.testing.assert_close(guided.std((1, 2, 3)), positive.estimate.std((1, 2, 3)))
