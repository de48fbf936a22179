"""Prompts whose words have weights, and prompts of any length, as compel reads them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from pixelsmith.errors import MissingPartError, RequestError
from pixelsmith.families.protocol import Prompt
from pixelsmith.families.quiet import quiet
from pixelsmith.plan import ModelFacts

_READERS = {
    "StableDiffusionPipeline": "CompelForSD",
    "LatentConsistencyModelPipeline": "CompelForSD",
    "StableDiffusionXLPipeline": "CompelForSDXL",
}
"""compel's classes by the pipelines that they read for: those that by themselves end after CLIP's 77 tokens."""


def check_weighting(facts: ModelFacts, *prompts: str) -> None:
    """Raises ``RequestError`` for a family or a text that it is not for, and ``MissingPartError`` without compel."""
    if facts.pipeline not in _READERS:
        raise RequestError(
            f"prompt weighting: it is for Stable Diffusion 1.x, 2.x and SDXL; {facts.name} is a {facts.pipeline}, "
            "whose text encoder reads long prompts by itself and knows no weights"
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
    """Both prompts, the shorter one padded to the length of the longer: a multiple of 77 tokens."""
    import compel

    reader = getattr(compel, _READERS[type(pipeline).__name__])(pipeline, device=device)
    # A word of a textual inversion is written out as one word for each of its vectors.
    texts = [pipeline.maybe_convert_prompt(text, pipeline.tokenizer) for text in (prompt, negative_prompt or "")]
    found = reader(texts[0], negative_prompt=texts[1])
    sides = [[found.embeds, found.pooled_embeds], [found.negative_embeds, found.negative_pooled_embeds]]
    if negative_prompt is None and pipeline.config.get("force_zeros_for_empty_prompt"):
        # As the pipeline itself has it.
        sides[1] = [torch.zeros_like(value) for value in sides[0]]
    names = ("encoder_hidden_states", "text_embeds")
    positive, negative = (
        {name: value.to(pipeline.unet.dtype) for name, value in zip(names, side, strict=True) if value is not None}
        for side in sides
    )
    return positive, negative
