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
    """95 % basic interval: twice the estimate minus percentiles (Davison and Hinkley 1997, section 5.2).

    A share of variance is a ratio whose resamples are skewed as its errors are, towards low values: the far
    end of the resamples belongs on the other side of the estimate.
    """
    low, high = percentile_interval(resampled)
    return 2 * estimate - high, 2 * estimate - low


def kinked_interval(estimate: float, resampled: np.ndarray) -> tuple[float, float]:
    """95 % interval of resamples (n,) of a statistic that has a kink, such as 1 - |1 - a| at 1.

    Resampling biases it downwards at the kink, where percentiles miss the truth; the basic interval misses it
    beside the kink. This one spans both.
    """
    ends = (*percentile_interval(resampled), *basic_interval(estimate, resampled))
    return min(ends), max(ends)
