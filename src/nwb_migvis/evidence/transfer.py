"""How far edits move a label towards their target, and how much of their source they keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.significance import permutation_p, permutations
from nwb_migvis.levels import Exchange

MIN_PAIRS = 8
"""Fewer usable pairs than this give no estimate."""


@dataclass(frozen=True)
class Draws:
    """What is drawn at random.

    Parameters
    ----------
    seed : int
    n_bootstrap : int
        Resamples for intervals.
    n_permutations : int
        B of the permutation null; p = (1 + k) / (1 + B).
    """

    seed: int
    n_bootstrap: int = 1000
    n_permutations: int = 999


@dataclass(frozen=True)
class Transfer:
    """What edits do to one label.

    Attributes
    ----------
    transfer, retention : float
    transfer_interval, retention_interval : (float, float)
        95 % percentile intervals of a bootstrap over pairs.
    p_value : float
        Of the transfer, one-sided: targets permuted among the pairs; those of a category among the pairs
        whose sources share it.
    n_pairs : int
        Pairs used.
    """

    transfer: float = np.nan
    retention: float = np.nan
    transfer_interval: tuple[float, float] = (np.nan, np.nan)
    retention_interval: tuple[float, float] = (np.nan, np.nan)
    p_value: float = np.nan
    n_pairs: int = 0

    def values(self) -> tuple[float, ...]:
        """Transfer with its bounds, retention with its bounds, p-value."""
        return (
            self.transfer,
            *self.transfer_interval,
            self.retention,
            *self.retention_interval,
            self.p_value,
        )


def numeric_transfer(
    edit: np.ndarray,
    target: np.ndarray,
    *,
    source: np.ndarray,
    draws: Draws,
    truth: tuple[np.ndarray, np.ndarray] | None = None,
) -> Transfer:
    """Measure transfer and retention of a numeric label by a joint regression.

    ``r(edit) = a r(target) + b r(source) + c`` over pairs: a is the transfer, b the retention. All three
    are readings by the same reader, so that a reader's shrinkage towards the mean cancels. Its noise biases
    a and b towards 0, by about the reader's R2, unless the true labels serve as instruments (two-stage least
    squares). Replacing the
    label by one drawn at random gives a = b = 0 (where the slope of edit - source on target - source
    would be a half).

    Parameters
    ----------
    edit, target, source : array (pair,) or (pair, column)
        Readings of the edited image and of the real target and source images. Columns (cosine and sine
        of a label that wraps) share a and b, each with its own c. Pairs with a NaN are omitted.
    draws : Draws
    truth : two arrays like `target`, optional
        True labels of target and source, coded like the readings: the instruments.

    Returns
    -------
    Transfer
        NaN with fewer than eight pairs, or where readings of targets and sources do not vary apart.
    """
    columns = (edit, target, source, *(truth or (target, source)))
    readings = (np.asarray(x, dtype=np.float64) for x in columns)
    stacked = np.stack([x[:, None] if x.ndim == 1 else x for x in readings])
    usable = np.isfinite(stacked).all(axis=(0, 2))
    stacked, n = stacked[:, usable], int(usable.sum())
    if n < MIN_PAIRS:
        return Transfer(n_pairs=n)
    stacked = stacked - stacked.mean(axis=1, keepdims=True)
    slopes = _joint_slopes(stacked, np.ones((1, n)))[0]
    if np.isnan(slopes).any():
        return Transfer(n_pairs=n)
    times_drawn, pairings = _draw(n, n, draws)
    resampled = _joint_slopes(stacked, times_drawn)
    null = _permuted_slopes(stacked, pairings)
    observed = slopes[0] if truth is None else _permuted_slopes(stacked, np.arange(n)[None])[0]
    intervals = _interval(resampled[:, 0]), _interval(resampled[:, 1])
    p_value = float(permutation_p(observed, null))
    return Transfer(float(slopes[0]), float(slopes[1]), *intervals, p_value=p_value, n_pairs=n)


def category_transfer(
    edit: np.ndarray,
    target: np.ndarray,
    *,
    source: np.ndarray,
    draws: Draws,
) -> Transfer:
    """Measure transfer and retention of a categorical label.

    Over pairs whose labels differ, transfer is the fraction of edits that are read as the target's
    class, retention the fraction that are read as the source's.

    Parameters
    ----------
    edit : array of int (pair,)
        Class that the reader finds most probable for the edited image.
    target, source : array of int (pair,)
        True class of the target and of the source; negative where missing.
    draws : Draws

    Returns
    -------
    Transfer
        NaN with fewer than eight pairs whose labels are present and differ.
    """
    edit, target, source = (np.asarray(x) for x in (edit, target, source))
    labelled = (target >= 0) & (source >= 0)
    edit, target, source = edit[labelled], target[labelled], source[labelled]
    differ = target != source
    n = int(differ.sum())
    if n < MIN_PAIRS:
        return Transfer(n_pairs=n)
    times_drawn, _ = _draw(n, 0, draws)
    same_source = Exchange(np.unique(source, return_inverse=True)[1].ravel())
    pairings = same_source.permutations_within(draws.n_permutations, np.random.default_rng([draws.seed, 1]))
    as_target, as_source = (edit == target)[differ], (edit == source)[differ]
    weight = times_drawn / n
    permuted = target[pairings]
    usable = permuted != source
    null = ((edit == permuted) & usable).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
    intervals = _interval(weight @ as_target), _interval(weight @ as_source)
    transfer = float(as_target.mean())
    p_value = float(permutation_p(transfer, null))
    return Transfer(transfer, float(as_source.mean()), *intervals, p_value=p_value, n_pairs=n)


def _joint_slopes(stacked: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted two-stage least squares of edits on targets and sources, an intercept per column.

    Parameters
    ----------
    stacked : array (5, pair, column)
        Edit, target, source, and the instruments of target and source: themselves for least squares.
    weight : array (resample, pair)

    Returns
    -------
    array (resample, 2)
        Slopes on target and source; NaN where they cannot be told apart.
    """
    total = weight.sum(axis=1)[:, None]
    means = [weight @ x / total for x in stacked]

    def covariance(i: int, j: int) -> np.ndarray:
        return (weight @ (stacked[i] * stacked[j]) / total - means[i] * means[j]).sum(axis=1)

    # Instruments 3 and 4 of target (1) and source (2) against the edit (0).
    tt, ts, te = (covariance(3, j) for j in (1, 2, 0))
    st, ss, se = (covariance(4, j) for j in (1, 2, 0))
    determinant = tt * ss - ts * st
    regular = np.abs(determinant) > 1e-9 * np.maximum(np.abs(tt), np.abs(ss)) ** 2
    safe = np.where(regular, determinant, 1.0)
    slopes = np.stack([ss * te - ts * se, tt * se - st * te], axis=1) / safe[:, None]
    return np.where(regular[:, None], slopes, np.nan)


def _permuted_slopes(stacked: np.ndarray, pairings: np.ndarray) -> np.ndarray:
    """Slope on the target's instrument when targets are permuted among the pairs, (permutation,).

    `stacked` is centred. Least squares on the instruments: the denominator of two stages would be noise.
    """
    edit, target, source = stacked[[0, 3, 4]]
    ss = (source**2).sum()
    left = edit - source * (edit * source).sum() / ss
    shuffled = target[pairings]
    along = (shuffled * source).sum(axis=(1, 2))
    across = (shuffled**2).sum(axis=(1, 2)) - along**2 / ss
    return (shuffled * left).sum(axis=(1, 2)) / np.maximum(across, 1e-12 * ss)


def _draw(n: int, n_paired: int, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each of n pairs is in each resample, (resample, n), and permutations of n_paired."""
    rng = np.random.default_rng(draws.seed)
    times_drawn = rng.multinomial(n, np.full(n, 1 / n), size=draws.n_bootstrap).astype(np.float64)
    return times_drawn, permutations(n_paired, draws.n_permutations, rng=rng)


def _interval(values: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).all():
        return np.nan, np.nan
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
