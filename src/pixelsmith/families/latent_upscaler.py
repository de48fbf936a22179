"""The 2x latent upscaler of diffusers, with which table 3 of the paper compares."""

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
            # Each library raises its own errors for damaged files.
            raise ModelError(f"{source}: it cannot be loaded as a latent upscaler: {reason_of(error)}") from error
        self._pipeline.to("cuda" if torch.cuda.is_available() else "cpu").set_progress_bar_config(disable=True)

    def __call__(self, pixels: NDArray[np.uint8], prompt: str, seed: int) -> NDArray[np.uint8]:
        """Upscale a picture (h, w, 3), whose sides are multiples of 64, by 2."""
        generator = torch.Generator().manual_seed(seed)
        with quiet():
            found = self._pipeline(
                prompt=prompt, image=Image.fromarray(pixels), num_inference_steps=STEPS, guidance_scale=0,
                generator=generator, output_type="np",
            ).images[0]  # fmt: skip
        return np.asarray((found * 255).round().astype(np.uint8))
