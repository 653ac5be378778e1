"""P-values of permutation tests and of many tests at once."""

from __future__ import annotations

import numpy as np

from nwb_migvis.levels import permutations
from nwb_migvis.multiplicity import benjamini_hochberg

__all__ = ["benjamini_hochberg", "pairing_p", "permutation_p", "permutations"]

MOST_PRODUCTS = 2**24
"""Inner products that are held at a time: all of up to 4,096 rows."""

LEVEL = 0.05
"""False discovery rate over the groups of a run."""

ESTABLISHED, NOT_ESTABLISHED, NOT_MEASURED = "established", "not established", "not measured"


def permutation_p(observed: np.ndarray | float, null: np.ndarray) -> np.ndarray:
    """One-sided p-value of a permutation test, p = (1 + k) / (1 + B).

    Parameters
    ----------
    observed : array (...)
        The statistic; large values speak against the null.
    null : array (B, ...)
        The same statistic of B permutations.

    Returns
    -------
    array (...)
        k counts the permutations that reach the observed value, up to rounding; NaN where the statistic
        is NaN.
    """
    observed = np.asarray(observed, dtype=np.float64)
    # A permutation that gives the observed arrangement back must count although its sum was added up
    # in another order.
    reached = null >= observed - 1e-9 * np.abs(observed)
    p = (1 + reached.sum(axis=0)) / (1 + len(null))
    return np.where(np.isnan(observed), np.nan, p)


def pairing_p(left: np.ndarray, right: np.ndarray, pairings: np.ndarray) -> float:
    """P-value of the summed inner products of matching rows, when the rows of one side are exchanged.

    All inner products are taken, some rows at a time: the time grows with the square of the number of rows,
    the memory does not.

    Parameters
    ----------
    left, right : array (row, column)
    pairings : array of int (permutation, row)
        Which row of `right` each row of `left` is put together with.

    Returns
    -------
    float
        1 where all products are 0.
    """
    n = len(left)
    step = max(MOST_PRODUCTS // max(n, 1), 1)
    observed, null, is_any = 0.0, np.zeros(len(pairings)), False
    for first in range(0, n, step):
        rows = slice(first, first + step)
        products = left[rows] @ right.T
        is_any = is_any or bool(products.any())
        observed += np.trace(products, offset=first)
        null += products[np.arange(len(products)), pairings[:, rows]].sum(axis=1)
    return float(permutation_p(observed, null)) if is_any else 1.0
