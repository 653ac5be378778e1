"""P-values of several tests, adjusted for their number."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjust p-values so that calling those under q keeps the false discovery rate at q.

    Parameters
    ----------
    p : array (...)
        P-values; NaN says that a test was not made, and does not count as one.

    Returns
    -------
    array (...)
        Adjusted p-values of Benjamini and Hochberg (1995), NaN where `p` is.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.isfinite(p)
    values = p[tested]
    order = np.argsort(values, kind="stable")
    n = len(values)
    scaled = values[order] * n / np.arange(1, n + 1)
    smallest_from_here = np.minimum.accumulate(scaled[::-1])[::-1]
    back = np.empty(n)
    back[order] = np.minimum(smallest_from_here, 1.0)
    adjusted[tested] = back
    return adjusted
