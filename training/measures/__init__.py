"""The measurements of the embedded model: functions of a study, by name."""

from __future__ import annotations

from collections.abc import Callable

from training.figures import Figure
from training.measures.agreement import agreement
from training.measures.few_steps import few_steps
from training.measures.language import guidance, negative_prompts, other_words, unknown_prompts
from training.measures.realism import realism
from training.measures.reconstruction import reconstruction
from training.measures.speed import speed
from training.measures.variety import variety
from training.study import Study

MEASURES: dict[str, Callable[[Study], list[Figure]]] = {
    "autoencoder": reconstruction,
    "speed": speed,
    "agreement": agreement,
    "realism": realism,
    "variety": variety,
    "other words": other_words,
    "unknown prompts": unknown_prompts,
    "negative prompts": negative_prompts,
    "guidance": guidance,
    "few steps": few_steps,
}
