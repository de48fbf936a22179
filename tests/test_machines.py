"""The page of settings for machines: what it says fits, and is what the program counts now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.machines import CARDS, USABLE, Way, Weights, best, models, table
from pixelsmith.planning.planner import LIBRARIES

GB = 10**9
MODEL = Weights((GB, 2 * GB), 4 * GB, GB // 10, GB // 2, GB // 4, 10, 8)


def test_the_page_has_the_table_as_it_would_be_made_now() -> None:
    page = (Path(__file__).parents[1] / "docs" / "machines.md").read_text("utf-8")
    assert "\n".join(table()) in page, "run: python -m benchmarks.machines"


def test_weights_are_those_of_the_published_models() -> None:
    known = {name: one.network / 2e9 for name, one in models().items()}
    assert known == pytest.approx({"Stable Diffusion 1.5": 0.860, "SDXL": 2.567, "Flux.1": 11.9}, rel=0.01)


@pytest.mark.parametrize(
    ("memory", "held"),
    [("all", 7.5 + 2), ("encoders-released", 4.5 + 2), ("offload", 4 + 2), ("sequential", 0.1 + 2)],
)
def test_a_way_holds_its_weights_and_a_batch(memory: str, held: float) -> None:
    assert Way(memory, 8, 512).needs(MODEL) == pytest.approx(LIBRARIES + held * GB)


def test_the_larger_of_a_batch_and_a_tile_counts_and_int8_halves_the_network() -> None:
    large = replace(MODEL, pixel=20_000)
    assert Way("all", 1, 512).needs(large) == pytest.approx(LIBRARIES + 7.5 * GB + 512**2 * 20_000)
    assert Way("all", 8, 512).needs(MODEL) - Way("all", 8, 512, int8=True).needs(MODEL) == 2 * GB


def test_what_is_best_fits_and_a_larger_card_needs_no_slower_way() -> None:
    for card in CARDS:
        way = best(MODEL, card)
        assert way is not None
        assert way.needs(MODEL) <= USABLE * card * GB
    assert best(MODEL, 80) == Way("all", 8, None)
    assert best(MODEL, 1) is None
