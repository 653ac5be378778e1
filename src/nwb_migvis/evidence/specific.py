"""How well a label is read from a group beyond what else explains it: other labels, image features, time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.beyond import label_features
from nwb_migvis.evidence.decoding import MIN_STIMULI, PENALTIES, Reading, read_folds
from nwb_migvis.evidence.exchange import determined_by
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.significance import permutation_p
from nwb_migvis.labels import Label

MIN_LEFT = 0.05
"""A label of which less than this share is left beyond the others cannot be separated from them."""

LEVEL_PENALTIES = np.array([1.0])
"""Of readings across levels: cross-validation within the training rows, which share levels, would choose less
and read the level instead of the label."""


@dataclass(frozen=True)
class Specific:
    """A label read from latents beyond what else explains it.

    Attributes
    ----------
    score : float
        R2 of what the rest leaves over of the label: 0 for a guess, 1 for a perfect reading.
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


def what_is_left(label: Label, features: np.ndarray) -> np.ndarray:
    """Return the coded label minus its ridge regression on features, (stimulus, column).

    Fitted on all stimuli: no response has a part in it. NaN rows where the label is missing.
    """
    code = label.code()
    if code is None:
        return np.full((len(label), 1), np.nan)
    goal = code.encode(label.values).astype(np.float64)
    rows = label.present
    if not features.shape[1]:
        return goal - goal[rows].mean(axis=0)
    return goal - fit_ridge(features[rows], goal[rows]).predict(features)


def other_features(
    name: str, labels: Mapping[str, Label], *, nuisances: np.ndarray | None = None, seed: int
) -> np.ndarray:
    """Return what a label is judged beyond: the other labels, and nuisances of every image.

    Categories that the label is constant in are omitted (every object has a known kind): they are levels to
    exchange, not rivals.

    Parameters
    ----------
    name : str
    labels : mapping of str to Label (n_stimuli,)
    nuisances : array (stimulus, feature), optional
        Low-level image features, times.
    seed : int
    """
    others = {other: label for other, label in labels.items() if other != name}
    for finer in determined_by(labels[name], others):
        del others[finer]
    columns = {} if nuisances is None else {f"\0{i}": column for i, column in enumerate(nuisances.T)}
    described = others | {key: Label.of(key, column) for key, column in columns.items()}
    return label_features(described, train=np.ones(len(labels[name]), dtype=bool), seed=seed)


def decode_beyond(
    latents: np.ndarray, left: np.ndarray, reading: Reading, *, total: float, n_bootstrap: int = 1000
) -> Specific:
    """Decode what is left of a label from latents of held-out stimuli.

    Ridge regression on random Fourier features in folds of whole levels, as in `decoding.decode_labels`.
    The null permutes what is left over the levels, everything being fitted anew.

    Parameters
    ----------
    latents : array (stimulus, latent)
    left : array (stimulus, column)
        From `what_is_left`.
    reading : Reading
        What is exchanged, with the numbers of folds and permutations and the seed.
    total : float
        Variance of the coded label, summed over its columns.
    n_bootstrap : int
    """
    present = np.isfinite(left).all(axis=1)
    if present.sum() < MIN_STIMULI or not total > 0:
        return Specific()
    goal = left[present] - left[present].mean(axis=0)
    share = float((goal**2).mean(axis=0).sum() / total)
    if share < MIN_LEFT:
        return Specific(left=share)
    exchange = reading.exchange[present]
    rng = np.random.default_rng(reading.seed)
    fold, orders = exchange.folds(reading.n_folds, rng), exchange.permutations(reading.n_permutations, rng)
    goals = np.stack([goal, *(goal[order] for order in orders)], axis=1)
    penalties = PENALTIES if exchange.is_single else LEVEL_PENALTIES
    read = read_folds(latents[present], goals, fold=fold, seed=reading.seed, penalties=penalties)
    error, variance = ((goals - read) ** 2).sum(axis=2), (goals**2).sum(axis=2)
    scores = 1 - error.sum(axis=0) / variance.sum(axis=0)
    weight = exchange.bootstrap(n_bootstrap, rng)
    resampled = 1 - weight @ error[:, 0] / np.maximum(weight @ variance[:, 0], 1e-12)
    low, high = np.percentile(resampled, (2.5, 97.5))
    p_value = float(permutation_p(scores[0], scores[1:]))
    return Specific(float(scores[0]), (float(low), float(high)), p_value, share)
