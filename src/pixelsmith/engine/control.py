"""The windows of control pictures at each patch, which condition the network in addition to its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pixelsmith.families import Prompt, PromptAt
from pixelsmith.families.family import CONTROL
from pixelsmith.geometry import Size, Window, Wrap
from pixelsmith.pixels.reading import read_picture
from pixelsmith.pixels.resample import LaidOver
from pixelsmith.sampling.readable import Readable


@dataclass(frozen=True)
class Shown:
    """The control pictures of a stage: pixels (3, H, W) uint8, ``scale`` per latent on each axis, or latents, with a
    scale of 1. Their windows may reach over edges that wrap.
    """

    pictures: Sequence[Readable]
    scale: int

    def reads(self, window: Window) -> list[tuple[Readable, Window]]:
        """The pictures and the window of each at a patch."""
        return [(picture, window.scaled(self.scale)) for picture in self.pictures]


@dataclass(frozen=True)
class Controlled:
    """The prompts of patches with the windows of control pictures."""

    prompt_at: PromptAt
    shown: Shown

    def __call__(self, window: Window) -> Prompt:
        values = torch.stack([picture.read(place) for picture, place in self.shown.reads(window)])
        return {**self.prompt_at(window), CONTROL: values[None]}


def control_of(
    images: Sequence[str], picture: Size, rungs: Mapping[int, Size], wrap: Wrap
) -> dict[int, list[LaidOver]]:
    """The control pictures of a picture of this size as each rung sees them; ``rungs``: the sizes on the way to it,
    all of which ``wrap``.

    Raises ``PictureError`` for one that cannot be read.
    """
    if not images:
        return {}
    sources, numbers = [read_picture(Path(name)) for name in images], sorted(rungs)
    return {
        number: [
            LaidOver(
                source, source.size, rungs[number], "lanczos",
                after=(*(rungs[other] for other in numbers if other > number), picture), wrap=wrap,
            )
            for source in sources
        ]
        for number in numbers
    }  # fmt: skip
