"""Whether the latents of two sessions that share a latent space mean the same thing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.missing import centred, residuals
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
    halves: Halves,
    other: tuple[np.ndarray, np.ndarray],
    *,
    min_reliability: float = 0.1,
) -> CrossVariance:
    """Predict one session's responses from its own latents and from those of another session.

    Ridge regression from the session's own latents (one half of the repeats) to its responses (the other
    half) is fitted on its training stimuli. On test stimuli that both sessions saw, its inputs are the
    session's own latents or, with nothing fitted anew, the other session's. Both directions of the
    halves are averaged; the R2, averaged over reliable units, is divided by their mean half reliability.

    Parameters
    ----------
    halves : Halves
        Of the session.
    other : two arrays (stimulus, latent)
        The other session's latents for halves of its own repeats; NaN rows where it has none.
    min_reliability : float
        Units with a smaller split-half reliability on the training stimuli are omitted.

    Returns
    -------
    CrossVariance
    """
    half_a, half_b = halves.half_a, halves.half_b
    train, test = halves.repeated_train, halves.repeated_test & np.isfinite(other[0]).all(axis=1)
    n_test = int(test.sum())
    if min(n_test, train.sum()) < MIN_STIMULI:
        return CrossVariance(n_test, np.nan, np.nan)
    with np.errstate(invalid="ignore"):
        reliable = spearman_brown(column_correlation(half_a[train], half_b[train])) >= min_reliability
    ceiling = column_correlation(half_a[test], half_b[test])
    reliable &= np.isfinite(ceiling)
    if not reliable.any() or ceiling[reliable].mean() <= 0:
        return CrossVariance(n_test, np.nan, np.nan)
    r2 = []
    for own, others, responses in (
        (halves.latents_a, other[0], half_b),
        (halves.latents_b, other[1], half_a),
    ):
        y = responses[:, reliable]
        ridge = fit_ridge(own[train], y[train])
        r2.append([_r2(ridge.predict(z[test]), y[test]) for z in (own, others)])
    by_own, by_other = np.mean(r2, axis=0) / ceiling[reliable].mean()
    return CrossVariance(n_test, float(by_own), float(by_other))


def _r2(prediction: np.ndarray, y: np.ndarray) -> float:
    """Return the R2 of each unit, averaged over units."""
    return float(np.mean(1 - (residuals(y, prediction) ** 2).sum(axis=0) / (centred(y) ** 2).sum(axis=0)))
