"""The image embeddings of IP-Adapters, encoded as in the stock pipelines (arXiv 2308.06721)."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor

CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"
"""The ``model_type`` in the configurations of image encoders."""


def encoded_images(
    pipeline: Any, pictures: Sequence[Tensor], device: torch.device
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """The embeddings of each adapter's picture (3, H, W) uint8, for the prompt and for the negative prompt.

    For the negative prompt they are what the pipeline takes: zeros, embeddings of zeros, or those of a black picture.
    """
    images = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in pictures]
    encode = pipeline.prepare_ip_adapter_image_embeds
    if "do_classifier_free_guidance" in signature(encode).parameters:
        found = encode(images, None, device, 1, True)
        # A pipeline for one adapter returns its tensor alone.
        negative, positive = zip(
            *(both.chunk(2) for both in ([found] if torch.is_tensor(found) else found)), strict=True
        )
        return positive, negative
    black = [Image.new("RGB", image.size) for image in images]
    return encode(images, None, device, 1), encode(black, None, device, 1)
