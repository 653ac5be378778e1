"""Estimates of several fits as one."""

import numpy as np
import pytest
from scipy import stats

from nwb_migvis.evidence.folds import combined_p, mean_interval


@pytest.mark.parametrize("p", [0.001, 0.02, 0.05, 0.5])
def test_fits_that_say_the_same_keep_their_p(p):
    assert combined_p([p] * 4) == pytest.approx(p)


def test_one_fit_that_speaks_clearly_is_not_silenced_by_one_that_says_nothing():
    assert combined_p([0.01, 0.01, 0.01, 1.0]) < 0.05
    assert combined_p([0.3, 0.4, 0.5, 1.0]) > 0.5


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7, 0.95])
def test_the_level_hardly_changes_with_what_the_fits_share(correlation):
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(5000, 1)), rng.normal(size=(5000, 4))
    z = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    p = np.array([combined_p(row) for row in stats.norm.sf(z)])
    assert 0.04 < (p < 0.05).mean() < 0.065


def test_the_interval_of_a_mean_covers_it():
    rng = np.random.default_rng(1)
    error = np.array([0.5, 1.0, 2.0, 1.0])
    found = rng.normal(0.3, error, (4000, 4))
    half = stats.norm.ppf(0.975) * error
    inside = []
    for estimates in found:
        low, high = mean_interval(estimates, np.column_stack([estimates - half, estimates + half]))
        inside.append(low < 0.3 < high)
    assert 0.94 < np.mean(inside) < 0.96


def test_each_side_of_an_interval_is_of_that_side():
    low, high = mean_interval([1.0, 1.0], [(0.5, 3.0), (0.5, 3.0)])
    assert (low, high) == pytest.approx((1 - 0.5 / np.sqrt(2), 1 + 2 / np.sqrt(2)))
