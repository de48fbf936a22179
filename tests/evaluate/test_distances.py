from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from pixelsmith.evaluate.distances import frechet_distance, inception_score, kernel_distance


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize(("n", "d"), [(200, 8), (6, 40)])
def test_frechet_distance_of_a_shifted_and_a_scaled_set_in_closed_form(n: int, d: int) -> None:
    """Shifted by m: |m|². Scaled by s about its mean: (s − 1)² times the trace of the covariance. For few rows and
    many.
    """
    a = rows(n, d)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 3.0) == pytest.approx(9 * d)
    scaled = a.mean(0) + 1.5 * (a - a.mean(0))
    assert frechet_distance(a, scaled) == pytest.approx(0.25 * np.trace(np.cov(a, rowvar=False)))


def test_frechet_distance_equals_another_formulation() -> None:
    """By the eigenvalues of the product of the covariances."""
    a, b = rows(50, 12), rows(70, 12, 1) @ rows(12, 12, 2)
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(map(np.trace, covariances)) - 2 * roots
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_kernel_distance_equals_torchmetrics() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.image.kid import poly_mmd

    a, b = rows(30, 16), rows(30, 16, 1) + 0.3
    assert kernel_distance(a, b) == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))), rel=1e-6)


def test_kernel_distance_of_sets_from_one_distribution_is_about_zero() -> None:
    found = [kernel_distance(rows(40, 8, 2 * i), rows(40, 8, 2 * i + 1)) for i in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert kernel_distance(rows(40, 8), rows(40, 8, 1) + 1) > max(found)


def test_crops_of_one_picture_are_not_compared() -> None:
    """For crops that are similar within each picture, the distance of two sets from one distribution is still about
    zero.
    """
    real, found = rows(400, 8, 99), []
    for seed in range(40):
        crops = np.repeat(rows(10, 8, seed), 16, axis=0)
        found.append(kernel_distance(crops, real, together=16))
        assert kernel_distance(crops, real) > found[-1]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found)) + 0.02


def test_inception_score_ranges_from_one_to_the_number_of_classes() -> None:
    assert inception_score(np.eye(7)) == pytest.approx(7)
    assert inception_score(np.full((9, 7), 1 / 7)) == pytest.approx(1)
    assert inception_score(np.tile(np.eye(7)[2], (9, 1))) == pytest.approx(1)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_picture_has_no_distribution(distance: object) -> None:
    with pytest.raises(ValueError, match="two rows"):
        distance(rows(1, 4), rows(9, 4))  # type: ignore[operator]
