"""Encoding the prompts of a request: its texts, and the pictures of IP-Adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pixelsmith.config.request import Request
from pixelsmith.families import Family, Prompt
from pixelsmith.geometry import Window
from pixelsmith.pixels.reading import FilePicture, read_picture
from pixelsmith.pixels.resample import Resized

_SHORTER_SIDE, _STRIP = 2048, 64


@dataclass(frozen=True)
class PromptEncoder:
    """Encodes texts; ``images``: the tensors that IP-Adapters add to each prompt and to each negative prompt."""

    family: Family
    weighted: bool
    images: tuple[Prompt, Prompt]

    @classmethod
    def of(cls, request: Request, family: Family, pictures: Sequence[Tensor] | None = None) -> PromptEncoder:
        """The encoder of a request; ``pictures``: (3, H, W) uint8, instead of those that the request names.

        Raises ``PictureError`` if a picture cannot be read.
        """
        if pictures is None:
            pictures = [_reduced(read_picture(Path(name))) for name in request.ip_adapter_images]
        images: tuple[Prompt, Prompt] = family.encode_images(pictures) if pictures else ({}, {})
        return cls(family, request.prompt_weighting, images)

    def __call__(self, prompt: str, negative_prompt: str) -> tuple[Prompt, Prompt]:
        """The encoded prompt and negative prompt."""
        positive, negative = self.family.encode(prompt, negative_prompt, self.weighted)
        return {**positive, **self.images[0]}, {**negative, **self.images[1]}


def _reduced(source: FilePicture) -> Tensor:
    """A picture (3, H, W) uint8, scaled down in strips if it is large: image encoders see some hundred pixels."""
    size = source.size.scaled(min(1.0, _SHORTER_SIDE / min(source.size.width, source.size.height)))
    picture = Resized(source, source.size, size, "lanczos")
    tops = range(0, size.height, _STRIP)
    return torch.cat([picture.read(Window(top, 0, min(_STRIP, size.height - top), size.width)) for top in tops], 1)
