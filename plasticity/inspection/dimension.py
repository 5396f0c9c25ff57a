"""How many dimensions encodings fill: the spectrum of their covariance, and one number of it."""

import numpy as np


def spectrum(z: np.ndarray) -> np.ndarray:
    """The eigenvalues of the covariance of encodings, the largest first, float64.

    There are `min(n, D)`: of fewer examples than neurons the rest are 0.

    Args:
        z: encodings `(n, D)` of at least two examples.
    """
    away = z - z.mean(axis=0, dtype=float)
    return np.linalg.svd(away, compute_uv=False) ** 2 / (len(z) - 1)


def participation(eigenvalues: np.ndarray) -> float:
    """The participation ratio, a dimensionality: 0 of encodings that are all the same.

        PR = (sum lambda)^2 / sum lambda^2

    It is d where d eigenvalues are equal and the others 0 (Gao et al. 2017, *A theory of
    multineuronal dimensionality, dynamics and measurement*, bioRxiv 214262). Of n examples it is at
    most n - 1.
    """
    square = (eigenvalues**2).sum()
    return float(eigenvalues.sum() ** 2 / square) if square > 0 else 0.0
