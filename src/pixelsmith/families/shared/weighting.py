"""Weighted prompts, and prompts of any length, in compel's syntax."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pixelsmith.config.model_facts import ModelFacts
from pixelsmith.errors import MissingPartError, RequestError
from pixelsmith.families.family import Prompt
from pixelsmith.families.loading.quiet import quiet

_READERS = {
    "StableDiffusionPipeline": "CompelForSD",
    "LatentConsistencyModelPipeline": "CompelForSD",
    "StableDiffusionXLPipeline": "CompelForSDXL",
}
"""compel's classes by pipeline, for those whose prompts are limited to CLIP's 77 tokens."""


def check_weighting(facts: ModelFacts, *prompts: str) -> None:
    """Raise ``RequestError`` for an unsupported family or an invalid text, and ``MissingPartError`` without compel."""
    if facts.pipeline not in _READERS:
        raise RequestError(
            f"prompt weighting: it is for Stable Diffusion 1.x, 2.x and SDXL; {facts.name} is a {facts.pipeline}, "
            "whose text encoder reads long prompts by itself and does not support weights"
        )
    if find_spec("compel") is None:
        raise MissingPartError(
            "prompt weighting needs compel, which is not installed: pip install 'pixelsmith[prompts]'"
        )
    with quiet():
        from compel import Compel
    for prompt in prompts:
        try:
            Compel.parse_prompt_string(prompt)
        except Exception as error:
            raise RequestError(f"prompt weighting: {prompt!r} cannot be read: {error}") from error


def encode_weighted(
    pipeline: Any, prompt: str, negative_prompt: str | None, device: torch.device
) -> tuple[Prompt, Prompt]:
    """Both prompts, padded to the same length, a multiple of 77 tokens."""
    import compel

    reader = getattr(compel, _READERS[type(pipeline).__name__])(pipeline, device=device)
    # A word of a textual inversion is replaced by one word for each of its vectors.
    texts = [pipeline.maybe_convert_prompt(text, pipeline.tokenizer) for text in (prompt, negative_prompt or "")]
    found = reader(texts[0], negative_prompt=texts[1])
    positive = _told(found.embeds, found.pooled_embeds, pipeline.unet.dtype)
    negative = _told(found.negative_embeds, found.negative_pooled_embeds, pipeline.unet.dtype)
    if negative_prompt is None and pipeline.config.get("force_zeros_for_empty_prompt"):
        # As in the pipeline itself.
        negative = {name: torch.zeros_like(value) for name, value in negative.items()}
    return positive, negative


def _told(words: Tensor, whole: Tensor | None, dtype: torch.dtype) -> Prompt:
    """The embeddings of the tokens and, for SDXL, the pooled embedding."""
    prompt = {"encoder_hidden_states": words, "text_embeds": whole}
    return {name: value.to(dtype) for name, value in prompt.items() if value is not None}
