"""Responses with missing values: NaN where a unit was not observed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def same_rows(present: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the columns that are present in the same rows, with those rows.

    Parameters
    ----------
    present : array of bool (row, column)

    Yields
    ------
    columns, rows : array of int (column,), array of bool (row,)
    """
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        yield np.flatnonzero(which.ravel() == k), patterns[:, k]


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Return the mean of each column over the values (row, column) that are there, NaN without any."""
    present = ~np.isnan(values)
    if present.all():
        return values.mean(axis=0)
    n = present.sum(axis=0)
    return np.where(n > 0, np.where(present, values, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)


def centred(values: np.ndarray) -> np.ndarray:
    """Return values (row, column) minus the mean of their column, 0 where they are missing."""
    return residuals(values, mean_of_present(values))


def residuals(values: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return values (row, column) minus what was predicted, 0 where values are missing."""
    return np.where(np.isnan(values), 0.0, values - predicted)
