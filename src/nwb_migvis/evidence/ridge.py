"""Ridge regression of many outputs at once, its penalty chosen on the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PENALTIES = np.logspace(-6, 2, 17)
"""Candidate penalties, relative to the number of rows (features have unit variance)."""


@dataclass(frozen=True)
class Ridge:
    """A fitted linear map: features are standardised, then multiplied by `weight`.

    Attributes
    ----------
    mean, scale : array (feature,)
    weight : array (feature, output)
    intercept : array (output,)
    penalty : float
        The penalty used, relative to the number of training rows.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray
    penalty: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict the outputs (row, output) of features (row, feature)."""
        return (x - self.mean) / self.scale @ self.weight + self.intercept


def fit_ridge(x: np.ndarray, y: np.ndarray, *, penalty: float | None = None) -> Ridge:
    """Fit a ridge regression with an unpenalised intercept.

    Parameters
    ----------
    x : array (row, feature)
        A constant feature gets no weight.
    y : array (row, output)
    penalty : float, optional
        Relative to the number of rows; by default the candidate with the least generalised
        cross-validation error (Golub, Heath and Wahba 1979), summed over the standardised outputs.

    Returns
    -------
    Ridge
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12 * (1 + np.abs(mean)), scale, np.inf)
    centre = y.mean(axis=0)
    u, s, vt = np.linalg.svd((x - mean) / scale, full_matrices=False)
    projected = u.T @ (y - centre)
    if penalty is None:
        penalty = _least_gcv(s, projected, y - centre)
    shrunk = s / (s**2 + penalty * len(x))
    return Ridge(mean, scale, vt.T @ (shrunk[:, None] * projected), centre, penalty)


def _least_gcv(s: np.ndarray, projected: np.ndarray, y: np.ndarray) -> float:
    n = len(y)
    variance = (y**2).sum(axis=0)
    varies = variance > 0
    share = (projected[:, varies] ** 2 / variance[varies]).sum(axis=1)
    outside = varies.sum() - share.sum()
    errors = []
    for penalty in PENALTIES:
        shrinkage = s**2 / (s**2 + penalty * n)
        residual = outside + ((1 - shrinkage) ** 2 * share).sum()
        freedom = max(n - 1 - shrinkage.sum(), 1e-9)
        errors.append(residual / freedom**2)
    return float(PENALTIES[int(np.argmin(errors))])
