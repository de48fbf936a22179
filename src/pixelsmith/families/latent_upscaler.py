"""The 2x latent upscaler of diffusers: not a model of ours, but what table 3 of the paper compares with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelsmith.config.parts import located
from pixelsmith.errors import ModelError, reason_of
from pixelsmith.families.loading.quiet import quiet

STEPS = 20


class LatentUpscaler:
    """A ``StableDiffusionLatentUpscalePipeline``: ``source`` is its folder or hub id. Raises ``ModelError``."""

    def __init__(self, source: str) -> None:
        from diffusers import StableDiffusionLatentUpscalePipeline

        place = located(source, Path())
        try:
            with quiet():
                self._pipeline: Any = StableDiffusionLatentUpscalePipeline.from_pretrained(place)
        except Exception as error:
            # A damaged part fails in the library that reads it, each with errors of its own.
            raise ModelError(f"{source}: it is no latent upscaler that can be loaded: {reason_of(error)}") from error
        self._pipeline.to("cuda" if torch.cuda.is_available() else "cpu").set_progress_bar_config(disable=True)

    def __call__(self, pixels: NDArray[np.uint8], prompt: str, seed: int) -> NDArray[np.uint8]:
        """A picture (h, w, 3), both sides a multiple of 64, at twice its size."""
        generator = torch.Generator().manual_seed(seed)
        with quiet():
            found = self._pipeline(
                prompt=prompt, image=Image.fromarray(pixels), num_inference_steps=STEPS, guidance_scale=0,
                generator=generator, output_type="np",
            ).images[0]  # fmt: skip
        return np.asarray((found * 255).round().astype(np.uint8))
