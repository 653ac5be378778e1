"""Bootstrap intervals."""

from __future__ import annotations

import numpy as np

ENDS = (2.5, 97.5)
"""Percentiles of a 95 % interval."""


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resamples (n,); NaN where all of them are."""
    if np.isnan(resampled).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(resampled, ENDS)
    return float(low), float(high)


def basic_interval(estimate: float, resampled: np.ndarray) -> tuple[float, float]:
    """95 % basic interval of resamples (n,): twice the estimate minus their percentiles.

    For statistics that noise biases, which resampling biases once more in the same direction (Davison and
    Hinkley 1997, section 5.2).
    """
    low, high = percentile_interval(resampled)
    return 2 * estimate - high, 2 * estimate - low
