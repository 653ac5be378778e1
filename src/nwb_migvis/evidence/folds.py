"""Estimates of several fits, each of which holds out other stimuli, as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_P = 0.99
"""A p-value of 1 would outweigh any number of small ones."""


def combined_p(p_values: Sequence[float]) -> float:
    """Combine p-values that may depend on each other: the Cauchy combination test (Liu and Xie 2020).

    The mean of Cauchy variables is a Cauchy variable, and dependence hardly changes its tail: here the fits
    share training stimuli. For four normal statistics of any one correlation a level of .05 is in truth
    between .04 and .06.

    Parameters
    ----------
    p_values : sequence of float
        Above 0.
    """
    p = np.minimum(np.asarray(p_values, dtype=np.float64), MOST_P)
    mean = np.tan((0.5 - p) * np.pi).mean()
    return float(0.5 - np.arctan(mean) / np.pi)


def mean_interval(
    estimates: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """95 % interval of the mean of estimates on different stimuli, from the interval of each.

    Distances of the ends add up in squares, each side for itself (Zou and Donner 2008): the estimates err
    independently of each other.

    Parameters
    ----------
    estimates : sequence of float
    intervals : sequence of (float, float)
    """
    estimate, (low, high) = np.asarray(estimates, dtype=np.float64), np.transpose(intervals)
    below, above = np.sqrt(((estimate - low) ** 2).sum()), np.sqrt(((high - estimate) ** 2).sum())
    mean, n = estimate.mean(), len(estimate)
    return float(mean - below / n), float(mean + above / n)
