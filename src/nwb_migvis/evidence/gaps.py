"""Intervals of the gaps between groups: readings stay as they are, test stimuli are resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.intervals import percentile_interval
from nwb_migvis.evidence.labels import above_chance

N_RESAMPLES = 1000
PSEUDO_COUNT = 0.3
"""Stimuli by which every cell of a table of readings is filled before information is resampled."""


@dataclass(frozen=True, eq=False)
class LabelReadings:
    """One label as it is read from every group.

    Parameters
    ----------
    goal : numpy.ndarray, shape (n_stimuli, n_columns)
        The coded label; NaN rows where it is missing.
    read : dict of str to numpy.ndarray, shape (n_stimuli, n_columns)
        Cross-validated readings of it by group.
    is_category : bool
        Whether the score is a balanced accuracy above chance; else an R2.
    bins : numpy.ndarray of int, shape (n_stimuli,)
        Class or bin of the label.
    read_bins : dict of str to numpy.ndarray of int, shape (n_stimuli,)
        Class or bin of the reading by group.
    """

    goal: np.ndarray
    read: Mapping[str, np.ndarray]
    is_category: bool
    bins: np.ndarray
    read_bins: Mapping[str, np.ndarray]

    @classmethod
    def spread(cls, present: np.ndarray, **values: object) -> LabelReadings:
        """Return readings of the stimuli that have the label, (n_present, ...), as of all (n_stimuli,)."""

        def spread(part: object) -> object:
            if isinstance(part, Mapping):
                return {group: spread(own) for group, own in part.items()}
            if not isinstance(part, np.ndarray):
                return part
            filled = np.full(
                (len(present), *part.shape[1:]), np.nan if part.dtype.kind == "f" else 0, part.dtype
            )
            filled[present] = part
            return filled

        return cls(**{name: spread(part) for name, part in values.items()})  # type: ignore[arg-type]

    def scores(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Score of each group in every resample, (resample,), given how often each stimulus is in it.

        R2, or balanced accuracy above chance as in `labels.above_chance`, of the classes in the resample.
        """
        present = np.isfinite(self.goal).all(axis=1)
        goal, weight = self.goal[present], weight[:, present]
        total = weight.sum(axis=1)
        if self.is_category:
            of_class = weight @ goal
            n_classes = (of_class > 0).sum(axis=1)
            scores = {}
            for group, read in self.read.items():
                right = weight @ (goal * (read[present].argmax(axis=1) == goal.argmax(axis=1))[:, None])
                balanced = (right / np.maximum(of_class, 1e-12)).sum(axis=1) / n_classes
                scores[group] = np.asarray(above_chance(balanced, np.maximum(n_classes, 2)))
            return scores
        variance = (weight @ goal**2 - (weight @ goal) ** 2 / total[:, None]).sum(axis=1)
        errors = {group: ((read[present] - goal) ** 2).sum(axis=1) for group, read in self.read.items()}
        return {group: 1 - weight @ error / np.maximum(variance, 1e-12) for group, error in errors.items()}


def mig_interval(
    readings: LabelReadings, weight: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % interval of the mutual information gap of a label between the best two groups.

    Information of few stimuli in many cells is biased, and most where cells are empty. Resamples are
    therefore of a smoothed table: a share of the readings is replaced at random, as if every cell had
    `PSEUDO_COUNT` stimuli more. Their gaps minus that of the smoothed table itself say how far an estimate
    lies from the truth (a basic interval). The two groups are those that are best and second best on all
    stimuli.

    Parameters
    ----------
    readings : LabelReadings
    weight : array (resample, stimulus)
        How often each stimulus is in each resample.
    rng : numpy.random.Generator
        Of the readings that are replaced.
    """
    present = np.isfinite(readings.goal).all(axis=1)
    bins, weight = readings.bins[present], weight[:, present]
    reads = [read[present] for read in readings.read_bins.values()]
    n_bins = 1 + max(int(values.max()) for values in (bins, *reads))
    once = np.ones((1, len(bins)))
    tables = [_table(bins, read[None], once, n_bins) for read in reads]
    second, best = np.argsort([float(_information(table)[0]) for table in tables])[-2:]
    estimate, label = _gap(tables[best], tables[second]), tables[0][0].sum(axis=1)
    replaced = PSEUDO_COUNT * n_bins**2 / (len(bins) + PSEUDO_COUNT * n_bins**2)
    smoothed = [
        (1 - replaced) * tables[group] + replaced * label[:, None] / n_bins for group in (best, second)
    ]
    drawn = []
    for group in (best, second):
        noise = rng.integers(0, n_bins, weight.shape)
        read = np.where(rng.random(weight.shape) < replaced, noise, reads[group])
        drawn.append(_table(bins, read, weight, n_bins))
    errors = _gap(*drawn) - _gap(*smoothed, corrected=False)
    low, high = percentile_interval(errors)
    return float(estimate[0]) - high, float(estimate[0]) - low


def gap_intervals(
    readings: Mapping[str, LabelReadings],
    weight: np.ndarray,
    *,
    supervised_by: Mapping[str, Sequence[str]],
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of the gap between a group's score of its own labels and the best other's.

    The other group is the one that is best on all stimuli.

    Parameters
    ----------
    readings : mapping of str to LabelReadings
        By label.
    weight : array (resample, stimulus)
    supervised_by : mapping of str to sequence of str

    Returns
    -------
    dict of str to (float, float)
        For each supervised group; NaN where there is no other group or none of its labels was read.
    """
    once = np.ones((1, weight.shape[1]))
    intervals = {}
    for group, labels in supervised_by.items():
        own = [readings[label] for label in labels if label in readings]
        if not labels:
            continue
        if not own or len(own[0].read) < 2:
            intervals[group] = (np.nan, np.nan)
            continue
        others = {other: np.mean([label.scores(once)[other] for label in own]) for other in own[0].read}
        del others[group]
        best = max(others, key=lambda other: float(others[other]))
        gaps = []
        for label in own:
            scores = label.scores(weight)
            gaps.append(scores[group] - scores[best])
        intervals[group] = percentile_interval(np.mean(gaps, axis=0))
    return intervals


def _table(bins: np.ndarray, read: np.ndarray, weight: np.ndarray, n_bins: int) -> np.ndarray:
    """Count stimuli by bin of the label and of the reading, (resample, bin, bin)."""
    counts = np.zeros((len(weight), n_bins**2))
    np.add.at(counts, (np.arange(len(weight))[:, None], bins * n_bins + read), weight)
    return counts.reshape(-1, n_bins, n_bins)


def _gap(best: np.ndarray, second: np.ndarray, *, corrected: bool = True) -> np.ndarray:
    """Information of one table minus that of another, over the entropy of the label, (resample,)."""
    gain = _information(best, corrected) - _information(second, corrected)
    return gain / np.maximum(_entropy(best.sum(axis=2), corrected), 1e-12)


def _information(table: np.ndarray, corrected: bool = True) -> np.ndarray:
    flat = table.reshape(len(table), -1)
    parts = [_entropy(counts, corrected) for counts in (table.sum(axis=2), table.sum(axis=1), flat)]
    return np.maximum(parts[0] + parts[1] - parts[2], 0.0)


def _entropy(counts: np.ndarray, corrected: bool) -> np.ndarray:
    """Entropy in nats, (resample,), as in `disentanglement.mutual_information` where corrected."""
    n = counts.sum(axis=1)
    share = counts / n[:, None]
    entropy = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
    return entropy + corrected * ((share > 0).sum(axis=1) - 1) / (2 * n)
