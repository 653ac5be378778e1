"""What the order of presentations explains: slow drift, repetition, and what is confounded with time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.missing import mean_of_present
from nwb_migvis.evidence.ridge import RidgeBasis
from nwb_migvis.evidence.significance import permutation_p
from nwb_migvis.labels import Label
from nwb_migvis.levels import Exchange

WINDOW = 60
"""Standard deviation, in presentations, of the window that drift is smoothed with."""
N_RANKS = 8
"""Ranks among the repeats of an image that have gains of their own; later ones count as the last."""
MOST = 4.0
"""Largest factor by which a count is corrected."""
MOST_VALUES = 2**25
"""Counts of all presentations of some units that are corrected at a time: more units take their turns."""
CONFOUNDED = 0.5
"""Share of the variance of time between images above which an image cannot be separated from its time."""
CONFOUNDED_CYCLE = 0.75
"""The same of places within a cycle. Presentations in one random order have about a half by chance: the first
of an image is early where its second is."""
N_WAVES = 24
"""Cosines of time among the features that a label is read from."""
MIN_READ = 0.15
"""R2 of a label read from time alone above which the label is confounded with time."""


@dataclass(frozen=True, eq=False)
class Order:
    """When images were shown.

    Parameters
    ----------
    stimulus_index : numpy.ndarray of int, shape (n_presentations,)
    start_time_s : numpy.ndarray, shape (n_presentations,)
    n_stimuli : int
    """

    stimulus_index: np.ndarray
    start_time_s: np.ndarray
    n_stimuli: int

    @property
    def position(self) -> np.ndarray:
        """Place of each presentation in the session, (n_presentations,) in [0, 1]."""
        n = len(self.start_time_s)
        return np.argsort(np.argsort(self.start_time_s, kind="stable")) / max(n - 1, 1)

    @property
    def rank(self) -> np.ndarray:
        """How often the image was shown before, (n_presentations,) int."""
        order = np.lexsort((self.start_time_s, self.stimulus_index))
        n = np.bincount(self.stimulus_index, minlength=self.n_stimuli)
        first = (np.cumsum(n) - n)[self.stimulus_index[order]]
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order)) - first
        return rank

    @property
    def place_in_cycle(self) -> np.ndarray:
        """Place among the presentations of the same rank, (n_presentations,) in [0, 1]."""
        place, rank = np.empty(len(self.start_time_s)), self.rank
        for value in np.unique(rank):
            at = np.flatnonzero(rank == value)
            place[at] = np.argsort(np.argsort(self.start_time_s[at], kind="stable")) / max(len(at) - 1, 1)
        return place

    @property
    def in_first_half(self) -> np.ndarray:
        """Whether a presentation is among the earlier half of its image's repeats, (n_presentations,) bool.

        With an odd number of repeats the one in the middle goes to the earlier half of every other image.
        """
        n = np.bincount(self.stimulus_index, minlength=self.n_stimuli)
        return self.rank < ((n + np.arange(self.n_stimuli) % 2) // 2)[self.stimulus_index]

    def mean_of(self, values: np.ndarray) -> np.ndarray:
        """Average values (n_presentations, ...) over the presentations of each image."""
        total = np.zeros((self.n_stimuli, *values.shape[1:]))
        np.add.at(total, self.stimulus_index, values)
        n = np.bincount(self.stimulus_index, minlength=self.n_stimuli)
        return total / np.maximum(n, 1).reshape(-1, *[1] * (values.ndim - 1))


def without_drift(spike_count: np.ndarray, order: Order) -> np.ndarray:
    """Divide counts by the gain that their rank among the repeats and their time predict.

    For each unit the gain at a presentation is the mean of the other images' counts at the same rank, over
    the unit's mean. What is left is then divided in the same way by the mean of the other images' counts
    near it in time (a Gaussian window of `WINDOW` presentations). The image's own repeats enter neither, so
    that its response is not divided by itself. Rank comes first: it rises with time, and the mean over
    images near in time mixes the ranks.

    Parameters
    ----------
    spike_count : array (presentation, unit)
        NaN where a unit was not observed.
    order : Order

    Returns
    -------
    array (presentation, unit) of float64
    """
    n_presentations, n_units = np.shape(spike_count)
    n_together = max(MOST_VALUES // max(n_presentations, 1), 1)
    if n_units <= n_together:
        return _without_drift(spike_count, order)
    out = np.empty((n_presentations, n_units))
    for first in range(0, n_units, n_together):  # units do not enter into each other
        units = slice(first, first + n_together)
        out[:, units] = _without_drift(spike_count[:, units], order)
    return out


def _without_drift(spike_count: np.ndarray, order: Order) -> np.ndarray:
    counts = np.asarray(spike_count, dtype=np.float64)
    mean = mean_of_present(counts)
    rank = np.minimum(order.rank, N_RANKS - 1)
    corrected = counts / _bounded(_rank_mean(counts, order, rank), mean)
    return corrected / _bounded(_local_mean(corrected, order), mean_of_present(corrected))


def _bounded(local: np.ndarray, mean: np.ndarray) -> np.ndarray:
    gain = np.where(np.isfinite(local), local, mean) / np.where(mean > 0, mean, 1.0)
    return np.where(mean > 0, np.clip(gain, 1 / MOST, MOST), 1.0)


def _local_mean(counts: np.ndarray, order: Order) -> np.ndarray:
    """Mean counts of other images around each presentation, in blocks that bound the memory."""
    place = np.argsort(order.start_time_s, kind="stable")
    y, image = counts[place], order.stimulus_index[place]
    reach = 3 * WINDOW
    local = np.empty_like(y)
    present = ~np.isnan(y)
    y, is_whole = np.where(present, y, 0.0), present.all()
    for first in range(0, len(y), WINDOW):
        rows = np.arange(first, min(first + WINDOW, len(y)))
        near = np.arange(max(rows[0] - reach, 0), min(rows[-1] + reach + 1, len(y)))
        weight = np.exp(-0.5 * ((rows[:, None] - near) / WINDOW) ** 2) * (image[rows][:, None] != image[near])
        total = weight.sum(axis=1, keepdims=True) if is_whole else weight @ present[near]
        local[rows] = np.where(total > 0, weight @ y[near] / np.maximum(total, 1e-12), np.nan)
    back = np.empty_like(local)
    back[place] = local
    return back


def _rank_mean(counts: np.ndarray, order: Order, rank: np.ndarray) -> np.ndarray:
    """Mean counts of other images at the rank of each presentation."""
    local = np.full_like(counts, np.nan)
    present = ~np.isnan(counts)
    counts = np.where(present, counts, 0.0)
    for value in np.unique(rank):
        at = rank == value
        own, n_own = np.zeros((2, order.n_stimuli, counts.shape[1]))
        np.add.at(own, order.stimulus_index[at], counts[at])
        np.add.at(n_own, order.stimulus_index[at], present[at])
        image = order.stimulus_index[at]
        n_other = present[at].sum(axis=0) - n_own[image]
        local[at] = np.where(
            n_other > 0, (counts[at].sum(axis=0) - own[image]) / np.maximum(n_other, 1), np.nan
        )
    return local


def time_between_images(order: Order, time: np.ndarray) -> float:
    """Share of the variance of presentation times that lies between images.

    The intraclass correlation of a one-way layout: about 0 (or below) where every repeat comes in another
    order, 1 where the repeats of an image follow each other. NaN without repeats.

    Parameters
    ----------
    order : Order
    time : array (n_presentations,)
        `order.position`, or `order.place_in_cycle`.
    """
    n = np.bincount(order.stimulus_index, minlength=order.n_stimuli)
    repeated = n[order.stimulus_index] > 1
    if not repeated.any() or len(np.unique(order.stimulus_index[repeated])) < 2:
        return float("nan")
    image, own = order.stimulus_index[repeated], time[repeated]
    k, n_rows = len(np.unique(image)), len(image)
    within = ((own - order.mean_of(time)[image]) ** 2).sum() / (n_rows - k)
    total = ((own - own.mean()) ** 2).sum()
    between = (total - within * (n_rows - k)) / (k - 1)
    size = (n_rows - (n[n > 1] ** 2).sum() / n_rows) / (k - 1)
    spread = max((between - within) / size, 0.0)
    return float(spread / (spread + within)) if spread + within > 0 else float("nan")


def image_from_time(order: Order) -> str:
    """Say how images cannot be told from the time at which they were shown; "" where they can.

    What lasts for a while (drift, arousal, adaptation) looks like a response to the images that were shown
    meanwhile, in every repeat, where the repeats of an image are close in time or at one place in a cycle.
    """
    share = time_between_images(order, order.position)
    if share > CONFOUNDED:
        return f"time: the repeats of an image follow each other ({share:.2f} of time lies between images)"
    share = time_between_images(order, order.place_in_cycle)
    if share > CONFOUNDED_CYCLE:
        return f"time: every cycle has the same order ({share:.2f} of places in it lie between images)"
    return ""


def time_features(order: Order) -> np.ndarray:
    """Describe each image by when it was shown: (stimulus, feature).

    Mean place in the session with cosines of it, first place, mean rank and number of presentations.
    """
    mean = order.mean_of(order.position)
    first = np.ones(order.n_stimuli)
    np.minimum.at(first, order.stimulus_index, order.position)
    place = np.argsort(np.argsort(mean, kind="stable")) / max(order.n_stimuli - 1, 1)
    waves = np.cos(np.pi * np.arange(1, N_WAVES + 1) * place[:, None])
    n = np.log(np.maximum(np.bincount(order.stimulus_index, minlength=order.n_stimuli), 1))
    return np.column_stack([mean, first, order.mean_of(order.rank.astype(np.float64)), n, waves])


def time_nuisances(order: Order) -> np.ndarray:
    """Describe each image by its mean place, mean rank and number of presentations: (stimulus, feature)."""
    n = np.log(np.maximum(np.bincount(order.stimulus_index, minlength=order.n_stimuli), 1))
    features = (order.mean_of(order.position), order.mean_of(order.rank.astype(np.float64)), n)
    varying = [column for column in features if np.ptp(column) > 0]
    return np.array(varying).reshape(len(varying), order.n_stimuli).T


def label_from_time(
    label: Label, order: Order, *, exchange: Exchange, n_permutations: int = 199, seed: int
) -> tuple[float, float]:
    """Read a label from time alone, in five folds of whole levels.

    Returns
    -------
    score : float
        R2 of the coded label, 0 for a guess and 1 for a perfect reading. NaN where the label does not vary.
    p_value : float
        Of the null that the label has nothing to do with time: it is permuted over the levels. NaN where the
        score is too small to matter (`MIN_READ`).
    """
    code = label.code()
    if code is None:
        return float("nan"), float("nan")
    rows = label.present & np.isin(np.arange(order.n_stimuli), order.stimulus_index)
    goal, features, exchange = code.encode(label.values)[rows], time_features(order)[rows], exchange[rows]
    rng = np.random.default_rng(seed)
    fold = exchange.folds(5, rng)
    folds = [(fold == k, RidgeBasis(features[fold != k])) for k in np.unique(fold)]
    score = _held_out(features, goal, folds)
    if score <= MIN_READ:
        return score, float("nan")
    null = [_held_out(features, goal[rows], folds) for rows in exchange.permutations(n_permutations, rng)]
    return score, float(permutation_p(score, np.array(null)))


def _held_out(features: np.ndarray, goal: np.ndarray, folds: list[tuple[np.ndarray, RidgeBasis]]) -> float:
    read = np.empty_like(goal, dtype=np.float64)
    for held, basis in folds:
        read[held] = basis.fit(goal[~held]).predict(features[held])
    return float(1 - ((goal - read) ** 2).sum() / ((goal - goal.mean(axis=0)) ** 2).sum())
