"""How well a label is read from a group beyond what else explains it: other labels, image features, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nwb_migvis.evidence.beyond import label_features
from nwb_migvis.evidence.decoding import PENALTIES, Readings
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.significance import permutation_p
from nwb_migvis.labels import Label
from nwb_migvis.levels import Exchange, determined_by

MIN_LEFT = 0.05
"""A label of which less than this share is left beyond the others cannot be separated from them."""
MIN_LEVELS = 5
"""Fewer independent test stimuli, or levels of them, are no test."""
LEVEL_PENALTIES = np.array([1.0])
"""Of readings across levels: cross-validation within the training rows, which share levels, would choose less
and read the level instead of the label."""


NUISANCE_PENALTY = 1e-4
"""Of nuisances in a label, relative to the number of stimuli (the nuisances have unit variance)."""


@dataclass(frozen=True)
class Specific:
    """A label read from latents beyond what else explains it.

    Attributes
    ----------
    score : float
        Signed square of the correlation of reading and label, over what the rest leaves over of it: 0 for a
        guess, 1 for a perfect reading.
    interval : (float, float)
        95 %, of a bootstrap over whole levels of the test stimuli.
    p_value : float
    left : float
        Share of the label's variance that the rest leaves over; below `MIN_LEFT` nothing else is measured.
    """

    score: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    p_value: float = np.nan
    left: float = np.nan


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Where a reading is fitted, and where and how it is tested.

    Parameters
    ----------
    train, test : numpy.ndarray of bool, shape (n_stimuli,)
        The test stimuli, and their levels, had no part in anything that was fitted.
    exchange : Exchange
        Levels of all stimuli.
    n_permutations, n_bootstrap, seed : int
    """

    train: np.ndarray
    test: np.ndarray
    exchange: Exchange
    seed: int
    n_permutations: int = 999
    n_bootstrap: int = 1000


def what_is_left(label: Label, others: np.ndarray, nuisances: np.ndarray | None = None) -> np.ndarray:
    """Return the coded label minus its regression on nuisances and on the other labels, (stimulus, column).

    Fitted on all stimuli: no response has a part in it. Nuisances are few and are taken out nearly whole
    (`NUISANCE_PENALTY`). With a penalty that predicts best, some of each would stay in the label, and a group
    that encodes the nuisance would be said to encode the label. The other labels, as many random cosines, are
    taken out by ridge regression, of what the nuisances leave of them: whole, they would bring back a
    nuisance that they go with (Frisch and Waugh 1933). NaN rows where the label is missing.

    Parameters
    ----------
    label : Label (n_stimuli,)
    others : array (stimulus, feature)
        From `other_features`.
    nuisances : array (stimulus, column), optional
        Functions of what an image or its time has besides the label.
    """
    code = label.code()
    if code is None:
        return np.full((len(label), 1), np.nan)
    left = code.encode(label.values).astype(np.float64)
    rows = label.present
    left -= left[rows].mean(axis=0)
    # Of what has lost as many dimensions as the nuisances, cross-validation would take too small a penalty,
    # and little of the label would be left by chance alone.
    penalty = fit_ridge(others[rows], left[rows]).penalty if others.shape[1] else 0.0
    if nuisances is not None and nuisances.shape[1]:
        both = np.concatenate([left, others], axis=1)
        both -= fit_ridge(nuisances[rows], both[rows], penalty=NUISANCE_PENALTY).predict(nuisances)
        left, others = np.split(both, [left.shape[1]], axis=1)
    if others.shape[1]:
        left = left - fit_ridge(others[rows], left[rows], penalty=penalty).predict(others)
    return left


def other_features(name: str, labels: Mapping[str, Label], *, seed: int) -> np.ndarray:
    """Return the other labels as features that a label is judged beyond, (stimulus, feature).

    Categories that the label is constant in are omitted (every object has a known kind): they are levels to
    exchange, not rivals.

    Parameters
    ----------
    name : str
    labels : mapping of str to Label (n_stimuli,)
    seed : int
    """
    others = {other: label for other, label in labels.items() if other != name}
    for finer in determined_by(labels[name], others):
        del others[finer]
    return label_features(others, train=np.ones(len(labels[name]), dtype=bool), seed=seed)


def share_left(label: Label, left: np.ndarray) -> float:
    """Share of a coded label's variance that is left, from 0 to 1; NaN where it does not vary."""
    code = label.code()
    if code is None:
        return float("nan")
    rows = label.present
    total = code.encode(label.values)[rows].astype(np.float64).var(axis=0).sum()
    return float(left[rows].var(axis=0).sum() / total) if total > 0 else float("nan")


def read_beyond(
    latents: Mapping[str, np.ndarray],
    left: Mapping[str, np.ndarray],
    *,
    shares: Mapping[str, float],
    held_out: HeldOut,
) -> dict[tuple[str, str], Specific]:
    """Read what is left of each label from each group's latents of held-out stimuli.

    The reading (ridge regression on random Fourier features, as in `decoding.decode_labels`) is fitted on the
    training stimuli. The test stimuli's labels were never seen. Where the latents say nothing of a label, any
    assignment of these labels to the test stimuli (to whole levels of them) is as likely as the true one:
    they are permuted, everything fitted staying as it is.

    Parameters
    ----------
    latents : mapping of group to array (stimulus, latent)
    left : mapping of label to array (stimulus, column)
        From `what_is_left`.
    shares : mapping of label to float
        From `share_left`.
    held_out : HeldOut

    Returns
    -------
    dict of (group, label) to Specific
        Scores are NaN with fewer than five levels for test, or where nothing is left of a label.
    """
    penalties = PENALTIES if held_out.exchange.is_single else LEVEL_PENALTIES
    tests = {name: _Test(goal, held_out) for name, goal in left.items() if shares[name] >= MIN_LEFT}
    cells = {(group, name): Specific(left=shares[name]) for group in latents for name in left}
    for group, own in latents.items():
        readings = Readings(own, seed=held_out.seed)
        for name, test in tests.items():
            if test.is_possible:
                read = readings.read(left[name], train=test.train, new=test.test, penalties=penalties)
                cells[group, name] = replace(test.score(read), left=shares[name])
    return cells


class _Test:
    """The null of one label: its held-out values, permuted over levels."""

    def __init__(self, left: np.ndarray, held_out: HeldOut) -> None:
        present = np.isfinite(left).all(axis=1)
        self.train, self.test = held_out.train & present, held_out.test & present
        self._goal = left[self.test]
        exchange = held_out.exchange[self.test]
        varies = len(self._goal) > 0 and bool(self._goal.std(axis=0).any())
        self.is_possible = bool(self.train.sum() > 1 and exchange.n_levels >= MIN_LEVELS and varies)
        if self.is_possible:
            rng = np.random.default_rng(held_out.seed)
            self._orders = exchange.permutations(held_out.n_permutations, rng)
            self._weight = exchange.bootstrap(held_out.n_bootstrap, rng)

    def score(self, read: np.ndarray) -> Specific:
        """Score a reading (test stimulus, column) against its null."""
        score = _signed_square(*_moments(self._goal, read, np.ones((1, len(read)))))[0]
        low, high = np.percentile(_signed_square(*_moments(self._goal, read, self._weight)), (2.5, 97.5))
        p_value = float(permutation_p(score, self._permuted(read)))
        return Specific(float(score), (float(low), float(high)), p_value)

    def _permuted(self, read: np.ndarray) -> np.ndarray:
        read = read - read.mean(axis=0)
        both, variance = np.zeros((2, len(self._orders)))
        for goal, column in zip(self._goal.T, read.T, strict=True):
            drawn = goal[self._orders]
            both += drawn @ column / len(read)
            variance += drawn.var(axis=1)
        return _signed_square(both, variance * (read**2).mean(axis=0).sum())


def _moments(goal: np.ndarray, read: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance, and product of variances, summed over columns, by weight (k, row): (k,) each."""
    weight = weight / weight.sum(axis=1, keepdims=True)
    means = [weight @ values for values in (goal, read, goal * read, goal**2, read**2)]
    both = means[2] - means[0] * means[1]
    variances = [
        (square - mean**2).sum(axis=1) for square, mean in ((means[3], means[0]), (means[4], means[1]))
    ]
    return both.sum(axis=1), variances[0] * variances[1]


def _signed_square(both: np.ndarray, norm: np.ndarray) -> np.ndarray:
    return np.sign(both) * both**2 / np.maximum(norm, 1e-300)
