"""Whether latent groups are independent of each other, on held-out stimuli."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import xarray as xr

from nwb_migvis.evidence.decoding import MIN_STIMULI, Reading
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p
from nwb_migvis.groups import LatentGroups


def group_dependence(latents: np.ndarray, groups: LatentGroups, reading: Reading) -> xr.Dataset:
    """Predict each group's latents from each other group's, in folds, and test it against a null.

    Each latent and its square are predicted by ridge regression from the other group's latents and their
    squares. The null permutes one group's stimuli (whole levels) against the other's, everything being fitted
    anew. The statistic is the R2 over all standardised columns, averaged over both directions.

    Parameters
    ----------
    latents : array (stimulus, latent)
        Of stimuli that the encoder was not trained on.
    groups : LatentGroups
    reading : Reading

    Returns
    -------
    xarray.Dataset
        Over `pair` (the coordinates `group` and `other` name it): `score`, about or below 0 where groups are
        independent; `p_value`, and `q_value` over the pairs. NaN with fewer than twenty stimuli.
    """
    described = {name: _described(z) for name, z in groups.split(latents).items()}
    pairs = list(combinations(groups.names, 2))
    values = np.array([_pair(described[a], described[b], reading) for a, b in pairs]).reshape(-1, 2)
    return xr.Dataset(
        {
            "score": ("pair", values[:, 0]),
            "p_value": ("pair", values[:, 1]),
            "q_value": ("pair", benjamini_hochberg(values[:, 1])),
        },
        coords={
            "group": ("pair", np.array([a for a, _ in pairs], dtype=object)),
            "other": ("pair", np.array([b for _, b in pairs], dtype=object)),
        },
    )


def _described(latents: np.ndarray) -> np.ndarray:
    z = (latents - latents.mean(axis=0)) / np.maximum(latents.std(axis=0), 1e-12)
    both = np.concatenate([z, z**2 - 1], axis=1)
    return both / np.maximum(both.std(axis=0), 1e-12)


def _pair(a: np.ndarray, b: np.ndarray, reading: Reading) -> tuple[float, float]:
    if len(a) < MIN_STIMULI:
        return np.nan, np.nan
    rng = np.random.default_rng(reading.seed)
    fold = reading.exchange.folds(reading.n_folds, rng)
    observed = _cross_r2(a, b, fold)
    orders = reading.exchange.permutations(reading.n_permutations, rng)
    null = np.array([_cross_r2(a, b[order], fold) for order in orders])
    return observed, float(permutation_p(observed, null))


def _cross_r2(a: np.ndarray, b: np.ndarray, fold: np.ndarray) -> float:
    return float(np.mean([_held_out_r2(a, b, fold), _held_out_r2(b, a, fold)]))


def _held_out_r2(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    read = np.empty_like(y)
    for k in np.unique(fold):
        read[fold == k] = fit_ridge(x[fold != k], y[fold != k]).predict(x[fold == k])
    return float(1 - ((y - read) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum())
