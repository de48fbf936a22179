"""Understanding of language: paraphrases, unknown prompts, negative prompts, the guidance scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pixelsmith import Method
from training.figures import Figure
from training.judge import judged, subject_of
from training.measures.agreement import STYLE, SUBJECT
from training.sampling import Shot
from training.study import Study

SEEDS = 4
OTHER_WORDS = {
    ("satellite", "islands"): ("an archipelago seen from space", "small isles in the ocean, satellite image"),
    ("satellite", "lakes"): ("woods with many lakes, viewed from above", "aerial view of lakes among green forest"),
    ("satellite", "coast"): ("the shore of a green land, from orbit", "a coastline and the ocean, satellite picture"),
    ("satellite", "ocean"): ("the deep dark blue ocean from above", "open ocean water, orbital photograph"),
    ("satellite", "snow"): ("snow-capped peaks from above", "snow-covered mountains, satellite image"),
    ("satellite", "desert"): ("sand dunes of a desert seen from space", "aerial view of a sandy desert"),
    ("satellite", "mountains"): ("barren brown mountains from above", "rugged mountains, orbital photograph"),
    ("satellite", "forest"): ("dense green jungle seen from space", "aerial view of woods"),
    ("satellite", "steppe"): ("dry brown plains from above", "steppe, satellite image"),
    ("watercolor", "islands"): ("an archipelago, painted in watercolour", "islands in the sea, hand-painted map"),
    ("watercolor", "coast"): ("a coastline as a watercolour painting", "map of a shore in watercolor"),
    ("watercolor", "lakes"): ("hand-painted map of a land with many lakes", "lakes, map painted in watercolour"),
    ("watercolor", "roads"): ("streets on a hand-painted map", "watercolour of a country and its roads"),
    ("night", "lights"): (
        "night lights of a big city seen from orbit", "a metropolis at night from space", "villages in the dark, earth "
        "at night", "city lights at night", "many lights on the dark earth, seen from orbit",
    ),
    ("landscape", "photo"): ("a photograph of hills", "scenic view of a valley", "a beach, photo", "photo of the sea"),
}  # fmt: skip
"""By the style and the subject that the judge should find. Fifteen of the 35 are among the paraphrases of the training
(``training.data.paraphrase``), the others are not."""

UNKNOWN = (
    "a red bicycle", "portrait of an old man", "a cat asleep on a sofa", "the theory of relativity", "xyzzy plugh",
    "ein Haus am Meer", "spaghetti with tomato sauce", "?",
)  # fmt: skip
OF_MOUNTAINS = (
    "satellite photo of mountains", "satellite photo of snowy mountains, brown highlands",
    "satellite photo of snowy mountains, green valleys", "snow-capped peaks from above",
)  # fmt: skip
SCALES = (1.0, 2.0, 4.0)


def other_words(study: Study) -> list[Figure]:
    """The targets are those of the original captions."""
    wanted = [(*key, prompt) for key, prompts in OTHER_WORDS.items() for prompt in prompts for _ in range(SEEDS)]
    styles, subjects, prompts = (list(column) for column in zip(*wanted, strict=True))
    verdict = judged(study.judge, study.made(_shots(prompts)).pixels)
    theirs = [subject_of(record.caption) for _, record in study.held_out]
    best = study.real_verdict.subject_agreement(theirs)
    right = verdict.likelihood(subjects) == verdict.subjects.max(1)
    missed = {prompt for prompt in prompts if not any(right[i] for i, other in enumerate(prompts) if other == prompt)}
    return [
        Figure("style", verdict.style_agreement(styles), least=STYLE, note=f"{len(prompts)} pictures"),
        Figure(
            "subject, against that of held-out pictures",
            verdict.subject_agreement(subjects) / best,
            least=SUBJECT,
            note=f"never: {'; '.join(sorted(missed))}" if missed else "",
        ),
    ]


def unknown_prompts(study: Study) -> list[Figure]:
    """Noise would be rougher and finer than any real picture, a uniform colour smoother."""
    prompts = [prompt for prompt in UNKNOWN for _ in range(SEEDS)]
    found, real = (roughness(pixels) for pixels in (study.made(_shots(prompts)).pixels, study.real))
    inside = (found >= real.min(0)) & (found <= real.max(0))
    return [Figure("share as rough and as fine as real pictures are", float(inside.all(1).mean()), least=0.95,
                   note=f"{len(prompts)} pictures")]  # fmt: skip


def roughness(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The total variation of pictures (n, s, s, 3), in grey values per pixel, and its share at single pixels; (n, 2).

    The latter is the ratio to the variation of 2x2 means: 2 for white noise, 0.5 for a smooth picture.
    """
    grey = pixels.astype(np.float64).mean(-1)
    halves = grey.reshape(len(grey), grey.shape[1] // 2, 2, -1, 2).mean((2, 4))
    fine, coarse = (_variation(values) for values in (grey, halves))
    return np.stack([fine, fine / np.maximum(coarse, 1e-6)], axis=1)


def _variation(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = [np.abs(np.diff(grey, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    return np.asarray(steps[0] + steps[1])


def negative_prompts(study: Study) -> list[Figure]:
    prompts = [prompt for prompt in OF_MOUNTAINS for _ in range(2 * SEEDS)]
    plain, without = (
        judged(study.judge, study.made(_shots(prompts, negative)).pixels).likelihood(["snow"] * len(prompts)).mean()
        for negative in ("", "snow, snowy mountains")
    )
    note = f"{len(prompts)} pairs of pictures"
    return [
        Figure("snow, as likely as the judge finds it", float(plain), note=note),
        Figure("the same with snow in the negative prompt, against that", float(without / plain), most=0.9, note=note),
    ]


def guidance(study: Study) -> list[Figure]:
    """For the first held-out captions, with the same seeds at each scale."""
    captions = study.captions[: 12 * SEEDS]
    subjects = [subject_of(caption) for caption in captions]
    found = [
        float(judged(study.judge, made.pixels).likelihood(subjects).mean())
        for made in (study.made(_shots(captions), Method(guidance_scale=scale)) for scale in SCALES)
    ]
    return [
        *(Figure(f"subject at scale {scale:g}, as likely as the judge finds it", value)
          for scale, value in zip(SCALES, found, strict=True)),
        Figure("least rise from scale to scale", min(b - a for a, b in pairwise(found)), least=0.0,
               note=f"{len(captions)} pictures each"),
    ]  # fmt: skip


def _shots(prompts: Sequence[str], negative: str = "") -> list[Shot]:
    return [Shot(prompt, seed, negative) for seed, prompt in enumerate(prompts)]
