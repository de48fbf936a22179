"""The captions of training pictures: what is said of their detail, and in which other words."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from training.data import DETAIL, STYLE_WORDS, Record, detail, paraphrase, tell_detail
from training.loop import balanced_weights

CAPTION = "satellite photo of islands in the blue sea, sandy desert"


def pictures(contrasts: list[float]) -> NDArray[np.uint8]:
    """Noise of these standard deviations around grey (n, 16, 16, 3)."""
    noise = np.random.default_rng(0).standard_normal((16, 16, 1))
    return np.stack([np.broadcast_to(128 + contrast * noise, (16, 16, 3)) for contrast in contrasts]).astype(np.uint8)


def test_detail_is_contrast_of_neighbours_not_of_the_whole() -> None:
    flat, ramp, fine, finer = pictures([0, 0, 8, 32])
    ramp = np.broadcast_to(8 * np.arange(16, dtype=np.uint8)[:, None, None], ramp.shape)
    assert 0 == detail(flat) < detail(fine) < detail(finer)
    assert ramp.std() > fine.std()
    assert detail(np.concatenate([ramp[:8]] * 2)[:16]) > detail(ramp), "an edge is detail, a ramp hardly"


def test_the_detail_of_a_picture_is_told_among_those_of_its_caption() -> None:
    calm, rough = [Record("calm", "night", False)] * 20, [Record("rough", "night", False)] * 20
    found = tell_detail([*calm, *rough], pictures([*range(1, 21), *range(21, 41)]))
    for caption, part in (("calm", found[:20]), ("rough", found[20:])):
        assert [record.caption for record in part] == sorted(
            (record.caption for record in part), key=lambda told: DETAIL.index(told.removeprefix(caption))
        )
        assert [sum(record.caption == caption + words for record in part) for words in DETAIL] == [5, 7, 5, 3]


def test_held_out_pictures_are_told_by_the_training_ones_and_do_not_count() -> None:
    records = [Record("a", "night", i >= 20) for i in range(24)] + [Record("never trained on", "night", True)]
    found = tell_detail(records, pictures([*range(1, 21), 40, 40, 40, 0, 9]))
    assert [record.caption for record in found[20:]] == ["a, highly detailed"] * 3 + ["a, smooth", "never trained on"]
    assert sum(record.caption == "a, smooth" for record in found[:20]) == 5


def test_paraphrases_keep_the_style_and_say_the_detail_or_nothing() -> None:
    rng = random.Random(0)
    said = {paraphrase(f"{CAPTION}, highly detailed", rng) for _ in range(500)}
    assert len(said) > 200
    assert any("archipelago" in words for words in said)
    assert any(words.startswith("intricate, ") for words in said)
    assert any(words == words.removesuffix("detail") and "detailed" not in words for words in said)
    assert not any("smooth" in words or "watercolo" in words or "{" in words for words in said)


def test_a_plain_caption_is_among_its_paraphrases() -> None:
    rng = random.Random(0)
    for start, forms in STYLE_WORDS.items():
        assert forms[0] == start + "{}"
    said = [paraphrase("night photo from space of scattered towns", rng) for _ in range(500)]
    assert "night photo from space of scattered towns" in said
    assert paraphrase("a cat", rng) == "a cat"


def test_emphasis_is_among_those_of_a_style() -> None:
    records = [Record("sea", "a", False), Record("lakes", "a", False), Record("b", "b", False), Record("b", "b", True)]
    weights = balanced_weights(records, {"a": 0.8, "b": 0.2}, {"lakes": 3.0})
    np.testing.assert_allclose(weights, [0.2, 0.6, 0.2, 0.0])
