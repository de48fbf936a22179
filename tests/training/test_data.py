"""The captions of training pictures: their paraphrases, and how often they are drawn."""

from __future__ import annotations

import random
import re

import numpy as np

from training.data import ARRANGEMENTS, STYLE_WORDS, Record, paraphrase
from training.loop import balanced_weights


def test_a_caption_has_many_paraphrases_of_its_style() -> None:
    rng = random.Random(0)
    said = {paraphrase("satellite photo of islands in the blue sea, sandy desert", rng) for _ in range(500)}
    assert len(said) > 200
    assert any(words.startswith("an archipelago, ") for words in said)
    assert any(words.startswith("aerial view of ") for words in said)
    assert not any("watercolo" in words or "{" in words or "blue sea, sea" in words for words in said)


def test_the_original_caption_is_among_its_paraphrases() -> None:
    rng = random.Random(0)
    for start, forms in STYLE_WORDS.items():
        assert forms[0] == start + "{}"
    said = [paraphrase("night photo from space of scattered towns", rng) for _ in range(500)]
    assert "night photo from space of scattered towns" in said
    assert paraphrase("a cat", rng) == "a cat"


def test_paraphrases_reorder_parts_and_may_omit_the_land_of_a_coast() -> None:
    for usual, orders in ARRANGEMENTS.items():
        assert orders[0] == re.sub(r"\(.+\)", "{}", usual)
    rng = random.Random(0)
    said = {paraphrase("satellite photo of coast, tundra and blue sea", rng) for _ in range(3000)}
    assert {"satellite photo of tundra by the sea", "satellite photo of coast"} <= said
    assert any(words.endswith(", 8k") for words in said)


def test_paraphrases_never_omit_lakes() -> None:
    rng = random.Random(0)
    for subject in ("snowy mountains, green valleys with lakes", "ice sheet with lakes", "rainforest with lakes"):
        assert all("lakes" in paraphrase(f"satellite photo of {subject}", rng) for _ in range(300))


def test_emphasised_captions_are_drawn_more_often_within_their_style() -> None:
    records = [Record("sea", "a", False), Record("lakes", "a", False), Record("b", "b", False), Record("b", "b", True)]
    weights = balanced_weights(records, {"a": 0.8, "b": 0.2}, {"lakes": 3.0})
    np.testing.assert_allclose(weights, [0.2, 0.6, 0.2, 0.0])
