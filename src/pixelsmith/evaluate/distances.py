"""Distances between two sets of pictures, by their features in any network; and how varied one set is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
"""Features or probabilities, a row each (n, d)."""


def frechet_distance(a: Rows, b: Rows) -> float:
    """Fréchet distance of the Gaussians fitted to two sets of features (n, d) and (m, d) (arXiv 1706.08500, eq. 6).

    ``|μ_a − μ_b|² + tr(C_a + C_b − 2·(C_a·C_b)^½)``, in squares of the features' unit: 0 for sets with equal means and
    covariances, lower is better, no upper end. With Inception's features it is the FID. Few pictures (n < d) make it
    larger: compare sets of one size. Raises ``ValueError`` for fewer than two rows.
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
    """R with RᵀR the covariance of the rows, no larger than it needs to be."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    return centred if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def kernel_distance(a: Rows, b: Rows, together: int = 1) -> float:
    """Squared maximum mean discrepancy of two sets of features with the kernel (x·y/d + 1)³ (KID, arXiv 1801.01401).

    Unbiased: about 0 for sets from one distribution, also a little below; lower is better, no upper end. ``together``:
    how many rows of ``a`` in a row are of one picture; two of one picture are no independent pair, and are left out.
    Raises ``ValueError`` for fewer than two rows, or pictures.
    """
    if min(len(a) // together, len(b)) < 2:
        raise ValueError("an unbiased estimate needs at least two rows")
    return float(_mean_of_pairs(a, together) + _mean_of_pairs(b, 1) - 2 * _kernel(a, b).mean())


def _mean_of_pairs(x: Rows, together: int) -> float:
    """The mean kernel of two rows of different pictures."""
    picture = np.arange(len(x)) // together
    return float(_kernel(x, x)[picture[:, None] != picture].mean())


def _kernel(x: Rows, y: Rows) -> Rows:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def inception_score(probabilities: Rows) -> float:
    """``exp`` of the mean divergence of each picture's classes (n, classes) from those of all (arXiv 1606.03498).

    From 1 (every picture the same, or none of anything) to the number of classes (each clear, all as often); higher is
    better. With Inception's classes it is the IS; the splits of the source are left out.
    """
    p = np.clip(probabilities, 1e-16, 1)
    return float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean()))
