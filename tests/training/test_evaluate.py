"""The figures of the embedded model, at a tiny size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from pixelsmith.evaluate.features import load_features
from training import evaluate, study
from training.figures import Figure, least_at_most, load_results, save_results, table
from training.judge import Verdict, subject_of
from training.measures.language import OTHER_WORDS, roughness
from training.measures.realism import distance_ratio, octaves, power_of_training_pictures, same_captions
from training.measures.reconstruction import psnr
from training.measures.variety import nearest, spread
from training.study import Study

JUDGE = Path("src/pixelsmith/embedded/judge")


@pytest.mark.parametrize(
    ("figure", "reached"),
    [
        (Figure("x", 3), None),
        (Figure("x", 3, least=3), True),
        (Figure("x", 2.9, least=3), False),
        (Figure("x", 1.2, 0.9, 1.1), False),
        (Figure("x", math.nan, most=3), False),
    ],
)
def test_each_figure_is_compared_with_its_target(figure: Figure, reached: bool | None) -> None:
    assert figure.reached is reached


def test_the_best_of_several_methods_is_compared_with_the_target() -> None:
    ways = [Figure("time", 3.0, note="as it is"), Figure("time", 1.5, note="compiled")]
    assert [figure.reached for figure in least_at_most(ways, 2)] == [None, True]
    assert [figure.reached for figure in least_at_most(ways, 1)] == [None, False]


def test_saved_figures_are_not_used_for_another_model(tmp_path: Path) -> None:
    results = {"realism": [Figure("distance", 2.5, most=5, note="of 7"), Figure("power", math.nan)]}
    save_results(tmp_path / "figures.json", "this", results)
    assert table(load_results(tmp_path / "figures.json", "this")) == table(results)
    assert "| realism: distance | 2.5 | ≤ 5 | yes | of 7 |" in table(results)
    assert load_results(tmp_path / "figures.json", "that") == {}


def test_an_interrupted_evaluation_is_resumed(
    work: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Study(str(teacher), JUDGE, work, tmp_path / "out", 12)
    names = ["agreement", "variety", "few steps"]
    evaluate.evaluate(one, names[:1])
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())["figures"]
    assert {figure["name"] for figure in figures["agreement"]} >= {"style", "subject", "subject, desert"}

    def nothing(*arguments: object) -> None:
        raise AssertionError("a picture was made again")

    monkeypatch.setattr(study, "pictures", nothing)
    again = Study(str(teacher), JUDGE, work, tmp_path / "out", 12)
    evaluate.evaluate(again, names)
    kept = load_results(tmp_path / "out" / "figures.json", again.identity)
    assert list(kept) == names
    assert kept["few steps"] == [], "the model has no variant"
    assert again.base.pixels.shape == (12, 64, 64, 3)


def test_agreement_is_the_share_of_correct_answers() -> None:
    verdict = Verdict(np.zeros((2, 1)), np.eye(4)[[0, 1]], np.eye(14)[[0, 0]])
    assert verdict.style_agreement(["satellite", "satellite"]) == 0.5
    assert verdict.subject_agreement(["islands", "islands"]) == 1
    assert verdict.likelihood(["islands", "lakes"]).tolist() == [1, 0]


def test_a_subject_is_found_from_the_words_of_a_caption() -> None:
    assert subject_of("satellite photo of islands in the blue sea, tundra") == "islands"
    assert {subject for _, subject in OTHER_WORDS} <= set(_subjects())


def _subjects() -> list[str]:
    return list(json.loads((JUDGE / "config.json").read_text())["subjects"])


def test_the_distance_ratio_of_the_real_pictures_is_1() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((80, 3))
    assert distance_ratio(real, real)[0] == pytest.approx(1)
    assert distance_ratio(rng.standard_normal((80, 3)), real)[0] == pytest.approx(1, abs=0.6)
    assert distance_ratio(real + 2, real)[0] > 10


def test_octaves_show_the_frequencies_of_the_power() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    coarse = noise[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    assert octaves(noise)[2] == pytest.approx(octaves(noise)[0], rel=0.15), "white"
    assert octaves(coarse)[2] < 0.3 * octaves(coarse)[0]


def test_training_pictures_have_the_spectrum_of_held_out_ones_with_the_same_captions(
    work: Path, tmp_path: Path
) -> None:
    study = Study("embedded", JUDGE, work, tmp_path, 12)
    every = np.arange(len(study.held_out))
    figures = power_of_training_pictures(study, "all", every, same_captions(study))
    assert [figure.value for figure in figures] == pytest.approx([1, 1, 1], abs=0.05)
    assert power_of_training_pictures(study, "all", every, {}) == []


def test_noise_has_more_power_at_high_frequencies_than_pictures() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 64, 3))
    (rough, fine), (smooth, coarse) = roughness(noise)[0], roughness(ramp)[0]
    assert (fine, coarse) == (pytest.approx(2, abs=0.1), pytest.approx(0.5))
    assert rough > 50 * smooth


def test_copies_have_a_small_distance_and_seeds_a_large_one() -> None:
    trained = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    found = nearest(trained[[3, 4]] + np.array([[0], [0.1]], np.float32), trained)
    np.testing.assert_allclose(found, [0, 0.1 * 5**0.5], atol=2e-3)
    rows = np.array([[0, 0], [3, 4], [1, 1], [1, 1], [9, 9]], np.float32)
    assert spread(rows, ["a", "a", "b", "b", "c"]) == pytest.approx(2.5), "5 and 0; c has but one"


def test_psnr_is_in_decibels() -> None:
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0)
    assert psnr(black, black + 51) == pytest.approx(20 * math.log10(5))


def test_the_judge_of_the_training_agrees_with_that_of_the_package(work: Path) -> None:
    one = Study("embedded", JUDGE, work, work, 4)
    described = load_features("judge")(one.real)
    np.testing.assert_allclose(one.real_verdict.features, described.features, atol=1e-5)
    assert described.probabilities is not None
    np.testing.assert_allclose(one.real_verdict.subjects, described.probabilities, atol=1e-5)
