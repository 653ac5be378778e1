"""Sums over the rows of an array that belong together."""

from __future__ import annotations

import numpy as np


def summed(values: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Sum the rows that have the same index.

    Parameters
    ----------
    values : array (row, ...)
    index : array of int (row,)
        From 0 to n - 1.
    n : int

    Returns
    -------
    array (n, ...) of float64
        As `numpy.add.at` would add them, row by row, in less time.
    """
    columns = values.reshape(len(values), -1).T
    sums = np.empty((n, len(columns)))
    for k, column in enumerate(columns):
        sums[:, k] = np.bincount(index, weights=column, minlength=n)
    return sums.reshape(n, *values.shape[1:])
