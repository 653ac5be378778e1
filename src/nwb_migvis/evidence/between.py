"""Whether two sessions that share a latent space speak of the same thing in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.reliability import column_correlation, spearman_brown
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.variance import MIN_STIMULI


@dataclass(frozen=True)
class CrossVariance:
    """How well latents predict one session's responses to test stimuli that another session shared.

    Attributes
    ----------
    n_stimuli : int
        Test stimuli with repeats in both sessions.
    own, other : float
        Fraction of the repeatable variance predicted from the session's own latents and from the other's,
        by the same regression. NaN where it cannot be measured.
    """

    n_stimuli: int
    own: float
    other: float


def cross_variance(
    halves: tuple[np.ndarray, np.ndarray],
    *,
    own: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    train: np.ndarray,
    test: np.ndarray,
    min_reliability: float = 0.1,
) -> CrossVariance:
    """Predict one session's responses from its own latents and from those of another session.

    Ridge regression from the session's own latents (one half of the repeats) to its responses (the other
    half) is fitted on its training stimuli. On test stimuli that both sessions saw, its inputs are the
    session's own latents or, with nothing fitted anew, the other session's. Both directions of the
    halves are averaged; the R2, averaged over reliable units, is divided by their mean half reliability.

    Parameters
    ----------
    halves : two arrays (stimulus, unit)
        Mean responses in two halves of the repeats; NaN rows where a stimulus was not repeated.
    own : two arrays (stimulus, latent)
        The session's latents for those halves.
    other : two arrays (stimulus, latent)
        The other session's latents for halves of its own repeats; NaN rows where it has none.
    train, test : array of bool (stimulus,)
    min_reliability : float
        Units with a smaller split-half reliability on the training stimuli are left out.

    Returns
    -------
    CrossVariance
    """
    repeated = np.isfinite(halves[0]).all(axis=1)
    train = np.asarray(train, dtype=bool) & repeated
    test = np.asarray(test, dtype=bool) & repeated & np.isfinite(other[0]).all(axis=1)
    n_test = int(test.sum())
    if min(n_test, train.sum()) < MIN_STIMULI:
        return CrossVariance(n_test, np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        kept = spearman_brown(column_correlation(halves[0][train], halves[1][train])) >= min_reliability
    ceiling = column_correlation(halves[0][test], halves[1][test])
    kept &= np.isfinite(ceiling)
    if not kept.any() or ceiling[kept].mean() <= 0:
        return CrossVariance(n_test, np.nan, np.nan)
    found = []
    for seen, predicted in ((0, 1), (1, 0)):
        y = halves[predicted][:, kept]
        ridge = fit_ridge(own[seen][train], y[train])
        found.append([_r2(ridge.predict(z[seen][test]), y[test]) for z in (own, other)])
    by_own, by_other = np.mean(found, axis=0) / ceiling[kept].mean()
    return CrossVariance(n_test, float(by_own), float(by_other))


def _r2(prediction: np.ndarray, y: np.ndarray) -> float:
    """Return the R2 of each unit, averaged over units."""
    return float(np.mean(1 - ((y - prediction) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)))
