"""Whether latent groups are independent of each other, on held-out stimuli."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import xarray as xr

from nwb_migvis.evidence.decoding import MIN_STIMULI, Reading
from nwb_migvis.evidence.ridge import PENALTIES
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p
from nwb_migvis.groups import LatentGroups
from nwb_migvis.plain import Json

_AT_ONCE = 200
"""Permutations whose regressions are solved together."""


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


def dependence_records(dependence: xr.Dataset) -> tuple[Json, ...]:
    """Return one plain record per pair of groups that was measured."""
    names = ("group", "other", "score", "p_value", "q_value")
    rows = zip(*(dependence[name].values.tolist() for name in names), strict=True)
    return tuple(dict(zip(names, row, strict=True)) for row in rows if np.isfinite(row[2]))


def _described(latents: np.ndarray) -> np.ndarray:
    z = (latents - latents.mean(axis=0)) / np.maximum(latents.std(axis=0), 1e-12)
    both = np.concatenate([z, z**2 - 1], axis=1)
    return both / np.maximum(both.std(axis=0), 1e-12)


def _pair(a: np.ndarray, b: np.ndarray, reading: Reading) -> tuple[float, float]:
    if len(a) < MIN_STIMULI:
        return np.nan, np.nan
    rng = np.random.default_rng(reading.seed)
    fold = reading.exchange.folds(reading.n_folds, rng)
    orders = reading.exchange.permutations(reading.n_permutations, rng)
    every = np.concatenate([np.arange(len(a))[None], orders])
    parts = np.array_split(every, -(-len(every) // _AT_ONCE))
    scores = np.concatenate([_cross_r2(a, b[part], fold) for part in parts])
    return float(scores[0]), float(permutation_p(scores[0], scores[1:]))


def _cross_r2(a: np.ndarray, b: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """R2 on held-out folds of a (stimulus, column) with b (order, stimulus, column), both ways, (order,)."""
    a = a[None]
    forth = np.concatenate([_held_out_r2(a, b, fold == k) for k in np.unique(fold)], axis=1)
    back = np.concatenate([_held_out_r2(b, a, fold == k) for k in np.unique(fold)], axis=1)
    return np.mean([1 - each.sum(axis=1) for each in (forth, back)], axis=0)


def _held_out_r2(x: np.ndarray, y: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Share of the variance of y that one fold's errors are, (order, 1); x or y has a row per order.

    Ridge regression with, for each column, the penalty of least generalised cross-validation.
    """
    total = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2))
    x_mean, y_mean = (it[:, ~held].mean(axis=1, keepdims=True) for it in (x, y))
    x_train, y_train = x[:, ~held] - x_mean, y[:, ~held] - y_mean
    n = x_train.shape[1]
    squared, axes = np.linalg.eigh(x_train.transpose(0, 2, 1) @ x_train)
    squared = np.maximum(squared, 1e-9 * n)
    along = axes.transpose(0, 2, 1) @ (x_train.transpose(0, 2, 1) @ y_train)
    share = along**2 / squared[..., None]
    shrinkage = squared[:, None] / (squared[:, None] + PENALTIES[:, None] * n)
    outside = (y_train**2).sum(axis=1) - share.sum(axis=1)
    residual = outside[:, None] + (1 - shrinkage) ** 2 @ share
    freedom = np.maximum(n - 1 - shrinkage.sum(axis=2), 1e-9)
    best = PENALTIES[np.argmin(residual / freedom[..., None] ** 2, axis=1)]
    weight = axes @ (along / (squared[..., None] + best[:, None] * n))
    error = (y[:, held] - y_mean - (x[:, held] - x_mean) @ weight) ** 2
    return (error.sum(axis=(1, 2)) / total)[:, None]
