"""What the contract suite needs to know of a tiny pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.recommended import Sampler

PROMPT, NEGATIVE = "a coast", "roads"


@dataclass(frozen=True)
class Stock:
    """What the pipeline itself is asked for.

    ``noise`` (1, c, h, w) is what the canvas starts from; ``None`` leaves it to the pipeline, of seed 0. ``negative``:
    ``None`` leaves it to the pipeline.
    """

    noise: Tensor | None
    size: tuple[int, int]
    steps: int
    scale: float
    output: str = "latent"
    prompt: str = PROMPT
    negative: str | None = NEGATIVE

    @property
    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Specimen:
    """A tiny pipeline and how its own call is made.

    - ``call``: the pipeline's own denoising, as latents (1, c, h, w), or with ``output`` "pt" its picture (1, 3, H, W).
    - ``native``: pixels, where the family's own size is a constant of its pipeline; else ``None``.
    - ``steps``, ``scale``: what is compared; consistency models add noise between steps, so they are compared in one.
    - ``draws``: whether the pipeline starts from the noise of a seed as it is drawn.
    """

    name: str
    pipeline: str
    build: Callable[[], Any]
    call: Callable[[Any, Stock], Tensor]
    native: int | None = None
    steps: int = 4
    scale: float = 3.0
    sampler: Sampler = "ddim"
    draws: bool = True

    def save(self, folder: Path) -> Path:
        """In the diffusers format."""
        self.build().save_pretrained(folder)
        if self.native is not None:
            (folder / "pixelsmith.json").write_text(json.dumps({"native_size": f"{self.native}x{self.native}"}))
        return folder


def usual_call(pipeline: Any, stock: Stock, **options: Any) -> Tensor:
    """Of pipelines with latents as they are and ``guidance_scale`` as usual."""
    height, width = stock.size
    negative = {} if stock.negative is None else {"negative_prompt": stock.negative}
    images: Tensor = pipeline(
        **{
            "prompt": stock.prompt, "height": height, "width": width, "num_inference_steps": stock.steps,
            "guidance_scale": stock.scale, "latents": stock.noise, "generator": stock.generator,
            "output_type": stock.output,
        } | negative | options
    ).images  # fmt: skip
    return images
