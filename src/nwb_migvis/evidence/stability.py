"""Whether two fits find the same groups: similarity of their latents, and the best matching of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from nwb_migvis.groups import LatentGroups


@dataclass(frozen=True)
class Matching:
    """Groups of two fits, matched one to one.

    Attributes
    ----------
    partner : dict of str to str
        Group of the second fit by group of the first.
    similarity : dict of str to float
        Of each group of the first fit and its partner, in [0, 1].
    """

    partner: dict[str, str]
    similarity: dict[str, float]


def match_groups(
    latents_a: np.ndarray,
    latents_b: np.ndarray,
    *,
    groups_a: LatentGroups,
    groups_b: LatentGroups,
    measure: str = "cka",
) -> Matching:
    """Match the groups of two fits so that their summed similarity is largest (Hungarian algorithm).

    Parameters
    ----------
    latents_a, latents_b : array (stimulus, latent)
        Of the same stimuli, held out from both fits.
    groups_a, groups_b : LatentGroups
    measure : {"cka", "cca"}
        Linear centred kernel alignment, or mean canonical correlation.
    """
    similar = {"cka": linear_cka, "cca": mean_cca}[measure]
    table = np.array(
        [
            [similar(a, b) for b in groups_b.split(latents_b).values()]
            for a in groups_a.split(latents_a).values()
        ]
    )
    rows, columns = linear_sum_assignment(-table)
    names_a, names_b = list(groups_a), list(groups_b)
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    return Matching(
        partner={names_a[i]: names_b[j] for i, j in pairs},
        similarity={names_a[i]: float(table[i, j]) for i, j in pairs},
    )


@dataclass(frozen=True)
class Agreement:
    """How much more a group is like its namesake in other fits than like their other groups.

    Attributes
    ----------
    difference : float
        Linear CKA with the partner minus that with the most similar other group, where it is least.
    interval : (float, float)
        95 % of it, of a bootstrap over whole levels of the stimuli.
    p_value : float
        Share of resamples in which the difference is not above 0, (1 + k) / (1 + B); the largest over fits,
        since a group is stable if every fit finds it (Berger 1982).
    """

    difference: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    p_value: float = np.nan


def beyond_strangers(
    latents: np.ndarray, others: Sequence[np.ndarray], *, groups: LatentGroups, weight: np.ndarray
) -> dict[str, Agreement]:
    """Compare each group's similarity to its partner in other fits with that to all other groups there.

    Supervised groups have the same name in every fit. Free groups are matched to each other, one to one, so
    that the summed similarity is largest.

    Parameters
    ----------
    latents : array (stimulus, latent)
        Of stimuli held out from all fits.
    others : sequence of array (stimulus, latent)
        The same of other fits.
    groups : LatentGroups
    weight : array (resample, stimulus)
        How often each stimulus is in each resample.
    """
    if len(groups) < 2:
        return {name: Agreement() for name in groups}
    weight = np.concatenate([np.ones((1, len(latents))), weight])
    tables = [_matched_tables(latents, other, groups, weight) for other in others]
    of_fit = np.stack([_beyond_strangers(table) for table in tables])
    weakest = of_fit[:, 0].argmin(axis=0)
    difference = of_fit[weakest, :, np.arange(len(groups))].T
    low, high = np.percentile(difference[1:], (2.5, 97.5), axis=0)
    p_value = (1 + (of_fit[:, 1:] <= 0).sum(axis=1)).max(axis=0) / len(difference)
    return {
        name: Agreement(float(difference[0, i]), (float(low[i]), float(high[i])), float(p_value[i]))
        for i, name in enumerate(groups)
    }


def _beyond_strangers(tables: np.ndarray) -> np.ndarray:
    """Return the diagonal minus the largest entry beside it in its row and column, (resample, group)."""
    strangers = np.maximum(_most_beside_diagonal(tables), _most_beside_diagonal(tables.transpose(0, 2, 1)))
    return np.diagonal(tables, axis1=1, axis2=2) - strangers


def _matched_tables(a: np.ndarray, b: np.ndarray, groups: LatentGroups, weight: np.ndarray) -> np.ndarray:
    """CKA of the groups of a with those of b, matched to be in order: (resample, group, group)."""
    covariance = _weighted_covariance(np.concatenate([a, b], axis=1), weight)
    n, places = groups.n_latents, list(groups.slices.values())
    there = [slice(n + place.start, n + place.stop) for place in places]
    within = [[_squares(covariance[:, p, p]) for p in side] for side in (places, there)]
    table = np.empty((len(weight), len(places), len(places)))
    for i, p in enumerate(places):
        for j, q in enumerate(there):
            norm = np.sqrt(within[0][i] * within[1][j])
            table[:, i, j] = _squares(covariance[:, p, q]) / np.maximum(norm, 1e-300)
    free = np.array([i for i, name in enumerate(groups) if not groups.supervised_by[name]], dtype=int)
    order = np.arange(len(places))
    rows, columns = linear_sum_assignment(-table[0][np.ix_(free, free)])
    order[free[rows]] = free[columns]
    return table[:, :, order]


def _weighted_covariance(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Covariance of the columns of x under each row of weights, (resample, column, column)."""
    weight = weight / weight.sum(axis=1, keepdims=True)
    x = x - x.mean(axis=0)
    i, j = np.triu_indices(x.shape[1])
    mean = weight @ x
    covariance = np.empty((len(weight), x.shape[1], x.shape[1]))
    covariance[:, i, j] = weight @ (x[:, i] * x[:, j]) - mean[:, i] * mean[:, j]
    covariance[:, j, i] = covariance[:, i, j]
    return covariance


def _squares(block: np.ndarray) -> np.ndarray:
    return (block**2).sum(axis=(1, 2))


def _most_beside_diagonal(tables: np.ndarray) -> np.ndarray:
    """Largest entry of each row beside the diagonal, (resample, row)."""
    return np.where(np.eye(tables.shape[1], dtype=bool), -np.inf, tables).max(axis=2)


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear centred kernel alignment of two sets of latents (Kornblith et al. 2019, arXiv 1905.00414).

    ||A'B||^2 / (||A'A|| ||B'B||) of centred columns: 1 for a rotation, 0 without correlation. Latents that
    vary little count little.

    Parameters
    ----------
    a : array (stimulus, latent)
    b : array (stimulus, other latent)

    Returns
    -------
    float
        0 where either does not vary.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / norm) if norm > 0 else 0.0


def mean_cca(a: np.ndarray, b: np.ndarray) -> float:
    """Mean canonical correlation of two sets of latents: 1 for any invertible linear map between them.

    With few stimuli it is biased upwards: independent latents give about sqrt(latents / stimuli).
    """
    bases = []
    for x in (a, b):
        u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
        bases.append(u[:, s > 1e-9 * max(s[0], 1e-300)])
    n = min(bases[0].shape[1], bases[1].shape[1])
    if n == 0:
        return 0.0
    return float(np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)[:n].mean())
