"""What IP-Adapters see of pictures, as the stock pipelines encode them (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def encoded_images(
    pipeline: Any, pictures: Sequence[Tensor], device: torch.device
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """For the prompt and for the negative prompt, what each adapter of a pipeline sees of its picture (3, H, W) uint8.

    Beside a negative prompt an adapter sees nothing, or a black picture, as its pipeline has it.
    """
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
    encode = pipeline.prepare_ip_adapter_image_embeds
    if hasattr(pipeline, "unet"):
        negative, positive = zip(*(both.chunk(2) for both in encode(images, None, device, 1, True)), strict=True)
        return positive, negative
    black = [Image.new("RGB", image.size) for image in images]
    return encode(images, None, device, 1), encode(black, None, device, 1)
