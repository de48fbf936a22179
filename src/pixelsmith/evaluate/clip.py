"""CLIP score: how well pictures match their prompts (arXiv 2104.08718)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from safetensors import SafetensorError

from pixelsmith.config.parts import located
from pixelsmith.errors import ModelError

_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipScore:
    """100 times the cosine similarity of a picture's and its prompt's embedding, at least 0; higher is better.

    The factor is 2.5 in the source and 100 in torchmetrics. Scores of different CLIP models are not comparable;
    published ones are often of ``openai/clip-vit-base-patch16``.
    ``source`` is a folder in the format of transformers, or a hub id. Raises ``ModelError`` if it cannot be loaded.
    """

    def __init__(self, source: str) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        place = located(source, Path())
        try:
            self._model: Any = CLIPModel.from_pretrained(place).eval()
            self._tokenizer: Any = CLIPTokenizer.from_pretrained(place)
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"CLIP: {source!r} cannot be loaded; give a folder with config.json, model.safetensors and a "
                f"tokenizer, such as a copy of openai/clip-vit-base-patch16 ({type(error).__name__})"
            ) from error
        self._side = int(self._model.config.vision_config.image_size)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8], prompt: str) -> float:
        """The score of a picture (h, w, 3) and the prompt, which is truncated to the model's token limit."""
        room = self._model.config.text_config.max_position_embeddings
        tokens = self._tokenizer([prompt], return_tensors="pt", truncation=True, max_length=room)
        found = self._model(**tokens, pixel_values=self._prepared(pixels))
        # The model returns normalised embeddings.
        return 100 * max(0.0, float((found.image_embeds * found.text_embeds).sum()))

    def _prepared(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Preprocessing as in CLIP's training: scale the shorter side, crop to the middle, normalise the channels."""
        x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
        height, width = x.shape[-2:]
        factor = self._side / min(height, width)
        size = (max(self._side, round(height * factor)), max(self._side, round(width * factor)))
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - self._side) // 2, (size[1] - self._side) // 2
        x = x[..., top : top + self._side, left : left + self._side]
        return (x - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_SPREAD)[:, None, None]
