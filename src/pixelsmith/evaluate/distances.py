"""Distances between two sets of pictures by their features, and the diversity of one set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""Features or probabilities of n pictures, (n, d)."""


def frechet_distance(a: Rows, b: Rows) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features (n, d) and (m, d) (arXiv 1706.08500, eq. 6).

    ``|μ_a − μ_b|² + tr(C_a + C_b − 2·(C_a·C_b)^½)``, in the squared unit of the features: 0 for sets with equal means
    and covariances; lower is better, without an upper bound. With Inception's features it is the FID. It is biased
    upwards for few pictures (n < d), so compare sets of the same size. Raises ``ValueError`` for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError("a covariance needs at least two rows")
    roots_a, roots_b = _root(a), _root(b)
    # C = RᵀR: the eigenvalues of C_a·C_b are the squared singular values of R_a·R_bᵀ.
    cross = np.linalg.svd(roots_a @ roots_b.T, compute_uv=False).sum()
    return float(
        np.square(a.mean(0) - b.mean(0)).sum() + np.square(roots_a).sum() + np.square(roots_b).sum() - 2 * cross
    )


def _root(rows: Rows) -> Rows:
    """R with RᵀR the covariance of the rows, with as few rows as possible."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    return centred if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def kernel_distance(a: Rows, b: Rows, together: int = 1) -> float:
    """Squared maximum mean discrepancy of two sets of features with the kernel (x·y/d + 1)³ (KID, arXiv 1801.01401).

    Unbiased: about 0, also slightly negative, for sets from one distribution; lower is better, without an upper bound.
    ``together``: the number of consecutive rows of ``a`` from one picture; pairs of these are not independent and are
    left out.
    Raises ``ValueError`` for fewer than two rows, or pictures.
    """
    if min(len(a) // together, len(b)) < 2:
        raise ValueError("an unbiased estimate needs at least two rows")
    return float(_mean_of_pairs(a, together) + _mean_of_pairs(b, 1) - 2 * _kernel(a, b).mean())


def _mean_of_pairs(x: Rows, together: int) -> float:
    """The mean kernel over pairs of rows of different pictures."""
    picture = np.arange(len(x)) // together
    return float(_kernel(x, x)[picture[:, None] != picture].mean())


def _kernel(x: Rows, y: Rows) -> Rows:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def inception_score(probabilities: Rows) -> float:
    """``exp`` of the mean divergence of each picture's classes (n, classes) from those of all (arXiv 1606.03498).

    From 1 (all pictures have the same class probabilities) to the number of classes (each picture has a clear class,
    and all classes are equally frequent); higher is better. With Inception's classes it is the IS; the splits of the
    source are left out.
    """
    p = np.clip(probabilities, 1e-16, 1)
    return float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))
