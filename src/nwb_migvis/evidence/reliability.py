"""How repeatable each unit's responses are: the yardstick of every variance that is explained."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from nwb_migvis.evidence.missing import same_rows


def half_means(
    spike_count: np.ndarray,
    stimulus_index: np.ndarray,
    n_stimuli: int,
    *,
    rng: np.random.Generator,
    in_first: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split each stimulus's repeats into two halves and average the counts of each.

    Parameters
    ----------
    spike_count : array (presentation, unit)
        Spikes in the counting window; NaN where a unit was not observed.
    stimulus_index : array (presentation,)
        Row of each presentation's stimulus, in [0, n_stimuli).
    n_stimuli : int
    rng : numpy.random.Generator
    in_first : array of bool (presentation,), optional
        The presentations of the first half; drawn at random where it is None.

    Returns
    -------
    mean_a, mean_b : array (stimulus, unit), float64
        Mean spikes per presentation in each half; NaN where a stimulus has fewer than two repeats, or one
        of the halves none with the unit.
    n_a, n_b : array (stimulus,), or (stimulus, unit) where counts are missing
        Presentations in each half. With an odd number of repeats a coin decides which half is larger.
    """
    spike_count, stimulus_index = np.asarray(spike_count), np.asarray(stimulus_index)
    in_a = _random_half(stimulus_index, n_stimuli, rng=rng) if in_first is None else in_first
    sum_a, n_a = _sums(spike_count, stimulus_index, n_stimuli, chosen=in_a)
    sum_b, n_b = _sums(spike_count, stimulus_index, n_stimuli, chosen=~in_a)
    return _means(sum_a, n_a, n_b), _means(sum_b, n_b, n_a), n_a, n_b


def split_half_correlation(
    spike_count: np.ndarray,
    stimulus_index: np.ndarray,
    *,
    n_stimuli: int,
    n_splits: int = 10,
    seed: int,
    stimuli: np.ndarray | None = None,
) -> np.ndarray:
    """Correlate, over stimuli, the mean counts of two random halves of the repeats.

    The value is also the noise ceiling of a cross-half R2. It is the best that any model of the stimulus can
    expect when it predicts the mean response of one half of the repeats.

    Parameters
    ----------
    spike_count : array (presentation, unit)
        NaN where a unit was not observed: of such a unit only the other presentations are halved.
    stimulus_index : array (presentation,)
    n_stimuli : int
    n_splits : int
        Random halvings to average over.
    seed : int
    stimuli : array of bool (stimulus,), optional
        The stimuli to use; all by default.

    Returns
    -------
    array (unit,)
        NaN for a unit whose responses do not vary, and for all units where fewer than three stimuli
        were repeated.
    """
    spike_count, stimulus_index = np.asarray(spike_count), np.asarray(stimulus_index)
    if stimuli is not None:
        chosen = np.asarray(stimuli, dtype=bool)[stimulus_index]
        spike_count, stimulus_index = spike_count[chosen], stimulus_index[chosen]
    present = ~np.isnan(spike_count) if spike_count.dtype.kind == "f" else np.ones(1, bool)
    if not present.all():
        correlations = np.empty(spike_count.shape[1])
        for units, rows in same_rows(present):
            correlations[units] = split_half_correlation(
                spike_count[np.ix_(rows, units)],
                stimulus_index[rows],
                n_stimuli=n_stimuli,
                n_splits=n_splits,
                seed=seed,
            )
        return correlations
    rng = np.random.default_rng(seed)
    total, n_total = _sums(spike_count, stimulus_index, n_stimuli, chosen=None)
    correlations = np.zeros(spike_count.shape[1])
    for _ in range(n_splits):
        in_a = _random_half(stimulus_index, n_stimuli, rng=rng)
        sum_a, n_a = _sums(spike_count, stimulus_index, n_stimuli, chosen=in_a)
        n_b = n_total - n_a
        correlations += column_correlation(_means(sum_a, n_a, n_b), _means(total - sum_a, n_b, n_a))
    return correlations / n_splits


def split_half_reliability(
    spike_count: np.ndarray,
    stimulus_index: np.ndarray,
    *,
    n_stimuli: int,
    n_splits: int = 10,
    seed: int,
    stimuli: np.ndarray | None = None,
) -> np.ndarray:
    """Reliability of each unit's mean responses over all repeats.

    2 r / (1 + r) (Spearman and Brown), with r the mean split-half correlation over random halvings. It is the
    correlation to be expected between this experiment's mean responses over all repeats and those of an
    identical second experiment.

    Parameters
    ----------
    spike_count, stimulus_index, n_stimuli, n_splits, seed, stimuli
        As in `split_half_correlation`.

    Returns
    -------
    array (unit,)
        At most 1; NaN where `split_half_correlation` is.
    """
    return spearman_brown(
        split_half_correlation(
            spike_count,
            stimulus_index,
            n_stimuli=n_stimuli,
            n_splits=n_splits,
            seed=seed,
            stimuli=stimuli,
        )
    )


def spearman_brown(half_correlation: np.ndarray) -> np.ndarray:
    """Reliability of twice as many repeats, 2 r / (1 + r) (Spearman 1910; Brown 1910)."""
    r = np.maximum(np.asarray(half_correlation, dtype=np.float64), -0.99)
    return 2 * r / (1 + r)


def column_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of matching columns over the rows that are finite in both.

    Parameters
    ----------
    a, b : array (row, column)

    Returns
    -------
    array (column,)
        NaN where a column is constant, or with fewer than three rows.
    """
    present = np.isfinite(a) & np.isfinite(b)
    rows = present[:, 0] if a.shape[1] else np.zeros(len(a), dtype=bool)
    if (present != rows[:, None]).any():
        correlation = np.empty(a.shape[1])
        for columns, some in same_rows(present):
            correlation[columns] = column_correlation(a[np.ix_(some, columns)], b[np.ix_(some, columns)])
        return correlation
    if rows.sum() < 3:
        return np.full(a.shape[1], np.nan)
    a, b = a[rows] - a[rows].mean(axis=0), b[rows] - b[rows].mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    # Rounding leaves a constant column with a residue of about 1e-16 of its mean: no variance.
    varies = norm > 1e-12 * len(a)
    return np.where(varies, (a * b).sum(axis=0) / np.where(varies, norm, 1.0), np.nan)


def _random_half(stimulus_index: np.ndarray, n_stimuli: int, *, rng: np.random.Generator) -> np.ndarray:
    """Mark half of each stimulus's presentations, (presentation,) bool."""
    order = np.lexsort((rng.random(len(stimulus_index)), stimulus_index))
    n = np.bincount(stimulus_index, minlength=n_stimuli)
    first = np.cumsum(n) - n
    size_a = (n + rng.integers(0, 2, size=n_stimuli)) // 2
    sorted_index = stimulus_index[order]
    rank = np.arange(len(order)) - first[sorted_index]
    in_a = np.empty(len(order), dtype=bool)
    in_a[order] = rank < size_a[sorted_index]
    return in_a


def _sums(
    spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int, *, chosen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the counts of each stimulus's chosen presentations: (stimulus, unit) and their number.

    The number is (stimulus,), or (stimulus, unit) where counts are missing.
    """
    columns = np.arange(len(stimulus_index)) if chosen is None else np.flatnonzero(chosen)
    rows = stimulus_index[columns]
    which = sparse.csr_array(
        (np.ones(len(rows)), (rows, columns)), shape=(n_stimuli, len(stimulus_index)), dtype=np.float64
    )
    if spike_count.dtype.kind == "f" and not (present := ~np.isnan(spike_count)).all():
        n = np.rint(which @ present.astype(np.float64)).astype(np.int64)
        return which @ np.where(present, spike_count, 0.0), n
    return which @ spike_count, np.bincount(rows, minlength=n_stimuli)


def _means(sums: np.ndarray, n: np.ndarray, n_other: np.ndarray) -> np.ndarray:
    n, n_other = (each.reshape(len(sums), -1) for each in (n, n_other))
    return np.where((n > 0) & (n_other > 0), sums / np.maximum(n, 1), np.nan)
