"""P-values of permutation tests and of many tests at once."""

from __future__ import annotations

import math

import numpy as np

from nwb_migvis.levels import permutations
from nwb_migvis.multiplicity import benjamini_hochberg

__all__ = ["benjamini_hochberg", "permutation_p", "permutations", "verdict"]

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


def verdict(*, supervised: bool, decoding_q: float, variance_q: float) -> str:
    """Return whether a group's claim stands.

    A supervised group claims that it encodes its labels: they are decoded from it better than permuted
    labels are, and it explains response variance of other repeats. A free group claims the latter alone.
    Where the session has no repeats a supervised group is judged by decoding alone.

    Parameters
    ----------
    supervised : bool
    decoding_q, variance_q : float
        Adjusted p-values (Benjamini and Hochberg over the groups of the run) of the decoding of its own
        labels and of the variance explained; NaN where not measured.

    Returns
    -------
    str
        "established", "not established", or "not measured" where the claim's own test is NaN.
    """
    needed = decoding_q if supervised else variance_q
    if math.isnan(needed):
        return NOT_MEASURED
    tests = [q for q in (needed, variance_q) if not math.isnan(q)]
    return ESTABLISHED if max(tests) < LEVEL else NOT_ESTABLISHED
