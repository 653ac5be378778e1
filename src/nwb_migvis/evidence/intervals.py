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


def kinked_interval(estimate: float, resampled: np.ndarray) -> tuple[float, float]:
    """95 % interval of resamples (n,) of a statistic that has a kink, such as 1 - |1 - a| at 1.

    Resampling biases it downwards at the kink, where percentiles miss the truth; twice the estimate minus
    percentiles (the basic interval; Davison and Hinkley 1997, section 5.2) misses it beside the kink. The
    interval spans both.
    """
    low, high = percentile_interval(resampled)
    return min(low, 2 * estimate - high), max(high, 2 * estimate - low)
