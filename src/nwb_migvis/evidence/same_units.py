"""Which units of two sessions are the same, told by their responses to images that both sessions showed."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

MIN_IMAGES = 20
"""Fewer shared images than this do not tell units apart."""
N_PERMUTATIONS = 99
LEVEL = 95
"""Percentile of the best correlations of permuted images that a pair of units has to exceed."""


def match_by_responses(first: np.ndarray, second: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Match units by the correlation of their mean responses to the same images.

    The assignment has the largest sum of correlations, one to one. A pair counts if its correlation exceeds
    the best of all pairs that permuted images give (95th percentile of 99 permutations), and each of both is
    the other's best.

    Parameters
    ----------
    first : array (image, unit)
        Mean counts in the first session; NaN where a unit was not observed counts as its mean.
    second : array (image, other unit)
    seed : int

    Returns
    -------
    array of int (unit,)
        Unit of the second session; -1 where none is the same.
    """
    a, b = _standardised(first), _standardised(second)
    if not (a.shape[1] and b.shape[1]):
        return np.full(a.shape[1], -1)
    correlation = a.T @ b / len(a)
    rng = np.random.default_rng(seed)
    best = [(a[rng.permutation(len(a))].T @ b).max() / len(a) for _ in range(N_PERMUTATIONS)]
    least = np.percentile(best, LEVEL)
    rows, columns = linear_sum_assignment(-correlation)
    match = np.full(a.shape[1], -1)
    for row, column in zip(rows, columns, strict=True):
        is_best = correlation[row, column] >= max(correlation[row].max(), correlation[:, column].max())
        if is_best and correlation[row, column] > least:
            match[row] = column
    return match


def _standardised(values: np.ndarray) -> np.ndarray:
    """Return columns with mean 0 and variance 1; constant ones and missing values are 0."""
    values = np.asarray(values, dtype=np.float64)
    observed = np.isfinite(values)
    n = np.maximum(observed.sum(axis=0), 1)
    mean = np.where(observed, values, 0).sum(axis=0) / n
    centred = np.where(observed, values - mean, 0)
    scale = np.sqrt((centred**2).mean(axis=0))
    return np.where(scale > 1e-9, centred / np.where(scale > 1e-9, scale, 1), 0)
