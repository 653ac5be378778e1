"""P-values of permutation tests and of many tests at once."""

from __future__ import annotations

import numpy as np

from nwb_migvis.levels import permutations
from nwb_migvis.multiplicity import benjamini_hochberg

__all__ = ["benjamini_hochberg", "permutation_p", "permutations"]

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
