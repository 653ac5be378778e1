"""How far edits move a label towards their target, and how much of their source they keep."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from scipy import stats

from nwb_migvis.evidence.intervals import percentile_interval
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


@dataclass(frozen=True, eq=False)
class Transfer:
    """What edits do to one label.

    Attributes
    ----------
    transfer, retention : float
    transfer_interval, retention_interval : (float, float)
        95 % percentile intervals of a bootstrap over the sources of the pairs, or their targets.
    p_value : float
        Of the transfer, one-sided: targets permuted among the pairs; those of a category among the pairs
        whose sources share it. NaN where that permutes nothing.
    n_pairs : int
        Pairs used.
    resampled : array (resample, 2), optional
        Transfer and retention of each resample. Cells of the same pairs have the same resamples.
    """

    transfer: float = np.nan
    retention: float = np.nan
    transfer_interval: tuple[float, float] = (np.nan, np.nan)
    retention_interval: tuple[float, float] = (np.nan, np.nan)
    p_value: float = np.nan
    n_pairs: int = 0
    resampled: np.ndarray | None = None

    def values(self) -> tuple[float, ...]:
        """Transfer with its bounds, retention with its bounds, p-value."""
        return (
            self.transfer,
            *self.transfer_interval,
            self.retention,
            *self.retention_interval,
            self.p_value,
        )

    def record(self) -> dict[str, float | int | tuple[float, float]]:
        """Return everything but the resamples, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "resampled"}


def numeric_transfer(
    edit: np.ndarray,
    target: np.ndarray,
    *,
    source: np.ndarray,
    draws: Draws,
    truth: tuple[np.ndarray, np.ndarray] | None = None,
    ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> Transfer:
    """Measure transfer and retention of a numeric label by a joint regression.

    ``r(edit) = a r(target) + b r(source) + c`` over pairs: a is the transfer, b the retention. All three
    are readings by the same reader, so that a reader's shrinkage towards the mean cancels. Its noise biases
    a and b towards 0, by about the reader's R2, unless the true labels serve as instruments (two-stage least
    squares; Wright 1928). Replacing the label by one drawn at random gives a = b = 0 (where the slope of edit
    - source on target - source would be a half).

    Parameters
    ----------
    edit, target, source : array (pair,) or (pair, column)
        Readings of the edited image and of the real target and source images. Columns (cosine and sine
        of a label that wraps) share a and b, each with its own c. Pairs with a NaN are omitted.
    draws : Draws
    truth : two arrays like `target`, optional
        True labels of target and source, coded like the readings: the instruments. They are what is permuted.
    ends : two arrays (pair,), optional
        Source and target stimulus of each pair. Pairs that share one are resampled together: the source where
        sources repeat more than targets do, else the target.

    Returns
    -------
    Transfer
        NaN with fewer than eight pairs, or where readings of targets and sources do not vary apart.
    """
    columns = (edit, target, source, *(truth or (target, source)))
    readings = (np.asarray(x, dtype=np.float64) for x in columns)
    stacked = np.stack([x[:, None] if x.ndim == 1 else x for x in readings])
    usable = np.asarray(np.isfinite(stacked).all(axis=(0, 2)))
    stacked, n = stacked[:, usable], int(usable.sum())
    if n < MIN_PAIRS:
        return Transfer(n_pairs=n)
    stacked = stacked - stacked.mean(axis=1, keepdims=True)
    slopes = _joint_slopes(stacked, np.ones((1, n)))[0]
    if np.isnan(slopes).any():
        return Transfer(n_pairs=n)
    rng = np.random.default_rng(draws.seed)
    times_drawn = _times_drawn(ends or usable.size, draws, rng, n_fitted=3)[:, usable]
    resampled = _joint_slopes(stacked, times_drawn)
    null = _permuted_slopes(stacked, permutations(n, draws.n_permutations, rng=rng))
    observed = slopes[0] if truth is None else _permuted_slopes(stacked, np.arange(n)[None])[0]
    p_value = float(permutation_p(observed, null))
    return _measured(slopes, resampled, p_value, n)


@dataclass(frozen=True, eq=False)
class Confusion:
    """How a reader reads the classes of real images that it was not trained on.

    Parameters
    ----------
    truth, read : numpy.ndarray of int, shape (n_images,)
        True class, negative where missing, and the class that the reader finds most probable.
    n_classes : int
    """

    truth: np.ndarray
    read: np.ndarray
    n_classes: int
    _resampled: dict[Draws, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def rates(self) -> np.ndarray:
        """Fraction of the images of each class that are read as each, (class, class); NaN without images."""
        return self._rates(np.ones((1, len(self.truth))))[0]

    def resampled_rates(self, draws: Draws) -> np.ndarray:
        """The same of images drawn with replacement within their classes, (resample, class, class).

        Computed once for all the cells of a table.
        """
        if draws not in self._resampled:
            rng = np.random.default_rng([draws.seed, 2])
            within = Exchange(np.unique(self.truth, return_inverse=True)[1].ravel())
            drawn = np.zeros((draws.n_bootstrap, len(self.truth)))
            for rows in within.members:
                share = np.full(len(rows), 1 / len(rows))
                drawn[:, rows] = rng.multinomial(len(rows), share, size=draws.n_bootstrap)
            self._resampled[draws] = self._rates(drawn)
        return self._resampled[draws]

    def _rates(self, weight: np.ndarray) -> np.ndarray:
        classes = np.arange(self.n_classes)
        is_read = (self.read[:, None] == classes).astype(np.float64)
        counts = np.stack(
            [weight[:, own] @ is_read[own] for own in (self.truth == k for k in classes)], axis=1
        )
        total = counts.sum(axis=2, keepdims=True)
        return np.where(total > 0, counts / np.maximum(total, 1e-12), np.nan)


def category_transfer(
    edit: np.ndarray,
    target: np.ndarray,
    *,
    source: np.ndarray,
    draws: Draws,
    confusion: Confusion | None = None,
    ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> Transfer:
    """Measure transfer and retention of a categorical label.

    Transfer is the fraction of edits that show the target's class, retention the fraction that show the
    source's, over pairs whose labels differ. A reader confuses classes: with C(k, j) the rate at which it
    reads real images of class k as j, edits that show the target's class t in a fraction a of pairs, the
    source's s in a fraction b and any other class o in the rest are read as t and s at the rates

    ``read as t = a C(t, t) + b C(s, t) + (1 - a - b) C(o, t)``,
    ``read as s = a C(t, s) + b C(s, s) + (1 - a - b) C(o, s)``,

    averaged over pairs, and over the other classes for o. Solved for a and b, flawless edits have a = 1 and
    b = 0 whatever the reader's accuracy. Without `confusion` the reader is taken to be perfect.

    Parameters
    ----------
    edit : array (pair,) of int, or (pair, class)
        Class that the reader finds most probable for the edited image, or the probabilities of all: these
        break ties among permutations that give as many edits of the target's class.
    target, source : array of int (pair,)
        True class of the target and of the source; negative where missing.
    draws : Draws
    confusion : Confusion, optional
        Pairs of a class that it has no image of are omitted.
    ends : two arrays (pair,), optional
        Source and target stimulus of each pair. Pairs that share one are resampled together: the source where
        sources repeat more than targets do, else the target.

    Returns
    -------
    Transfer
        NaN with fewer than eight pairs whose labels are present and differ, or where the reader cannot tell
        their classes apart. The p-value is NaN where all targets of each source's class share one class
        (always with two classes whose targets differ from their sources): nothing can be permuted.
    """
    edit, target, source = (np.asarray(x) for x in (edit, target, source))
    n_classes = 1 + max(target.max(initial=0), source.max(initial=0))
    rates = np.eye(n_classes) if confusion is None else confusion.rates()
    has_rate = np.append(np.isfinite(rates).all(axis=1), False)
    labelled = (target >= 0) & (source >= 0) & has_rate[target] & has_rate[source]
    differ = labelled & (target != source)
    n = int(differ.sum())
    if n < MIN_PAIRS:
        return Transfer(n_pairs=n)
    rng = np.random.default_rng(draws.seed)
    weight = _times_drawn(ends or differ.size, draws, rng, n_fitted=1)[:, differ]
    drawn = rates[None]
    if confusion is not None:
        drawn = confusion.resampled_rates(draws)
    read = edit if edit.ndim == 1 else edit.argmax(axis=1)
    classes = read[differ], target[differ], source[differ]
    shares = _shares_shown(*classes, weight=np.ones((1, n)), rates=rates[None])[0]
    if np.isnan(shares).any():
        return Transfer(n_pairs=n)
    resampled = _shares_shown(*classes, weight=weight, rates=drawn)
    p_value = _category_p(edit[labelled], target[labelled], source[labelled], draws=draws)
    return _measured(shares, resampled, p_value, n)


def _shares_shown(
    read: np.ndarray, target: np.ndarray, source: np.ndarray, *, weight: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """Shares of edits that show the target's and the source's class, (resample, 2); NaN where not to be told.

    Parameters
    ----------
    read, target, source : array of int (pair,)
    weight : array (resample, pair)
    rates : array (resample or 1, class, class)
        NaN rows of classes without images.
    """
    of_pair = np.arange(len(rates))[:, None]
    total = weight.sum(axis=1)
    column = np.nansum(rates, axis=1)
    n_others = np.isfinite(rates).all(axis=2).sum(axis=1)[:, None] - 2

    def mean(values: np.ndarray) -> np.ndarray:
        return (weight * values).sum(axis=1) / total

    equations = []
    for end in (target, source):
        by_target, by_source = rates[of_pair, target, end], rates[of_pair, source, end]
        rest = np.where(
            n_others > 0, (column[of_pair, end] - by_target - by_source) / np.maximum(n_others, 1), 0.0
        )
        equations.append([mean(by_target - rest), mean(by_source - rest), mean((read == end) - rest)])
    (tt, st, te), (ts, ss, se) = equations
    determinant = tt * ss - st * ts
    regular = np.abs(determinant) > 1e-3
    safe = np.where(regular, determinant, 1.0)
    shares = np.stack([ss * te - st * se, tt * se - ts * te], axis=1) / safe[:, None]
    return np.where(regular[:, None], shares, np.nan)


def _category_p(edit: np.ndarray, target: np.ndarray, source: np.ndarray, *, draws: Draws) -> float:
    """P-value of edits that are read as their targets' class, targets permuted among sources of one class."""
    same_source = Exchange(np.unique(source, return_inverse=True)[1].ravel())
    if all(len(set(target[rows])) < 2 for rows in same_source.members):
        return float("nan")
    rng = np.random.default_rng([draws.seed, 1])
    pairings = same_source.permutations_within(draws.n_permutations, rng)
    n = len(edit)
    permuted = np.concatenate([target[None], target[pairings]])
    usable = permuted != source
    count = np.maximum(usable.sum(axis=1), 1)
    read = edit if edit.ndim == 1 else edit.argmax(axis=1)
    statistic = ((read == permuted) & usable).sum(axis=1) / count
    if edit.ndim == 2:
        probability = edit[np.arange(n), permuted]
        statistic = statistic + 0.1 / n**2 * (probability * usable).sum(axis=1) / count
    return float(permutation_p(statistic[0], statistic[1:]))


def _measured(estimates: np.ndarray, resampled: np.ndarray, p_value: float, n: int) -> Transfer:
    intervals = percentile_interval(resampled[:, 0]), percentile_interval(resampled[:, 1])
    return Transfer(float(estimates[0]), float(estimates[1]), *intervals, p_value, n, resampled)


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


def _times_drawn(
    ends: tuple[np.ndarray, np.ndarray] | int, draws: Draws, rng: np.random.Generator, *, n_fitted: int
) -> np.ndarray:
    """Weight of each pair in each resample, (resample, pair): 1 on average.

    Whole sources or whole targets are drawn with replacement, whichever are fewer; single pairs where only
    their number is given. Deviations from 1 are widened by what a t interval of as many levels, minus the
    parameters fitted, is wider than percentiles.
    """
    designs = [Exchange.singles(ends)] if isinstance(ends, int) else [Exchange.of(end) for end in ends]
    whole = min(designs, key=lambda design: design.n_levels)
    freedom = max(whole.n_levels - n_fitted, 1)
    wider = np.sqrt(whole.n_levels / freedom) * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    return 1 + wider * (whole.bootstrap(draws.n_bootstrap, rng) - 1)
