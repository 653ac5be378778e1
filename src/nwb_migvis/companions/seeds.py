"""Groups of one session that are found again by fits from other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from nwb_migvis.companions.held import Held
from nwb_migvis.companions.kernels import unbiased_cka
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.evidence.significance import LEVEL, benjamini_hochberg, permutation_p

MOST_IMAGES = 400
"""Held-out images that groups of two fits are compared on."""

Groups = list[np.ndarray]
"""Latents (image, latent) of each group of a fit."""


def across_seeds(
    sessions: Sequence[Held], fits: Sequence[Sequence[np.ndarray]], names: Sequence[str]
) -> tuple[Variables, list[str]]:
    """Cluster the groups of each session's fits.

    Parameters
    ----------
    sessions : sequence of Held
    fits : sequence
        For each fit, the run's own first, the latents (stimulus, latent) of each session.
    names : sequence of str
        What the groups of each session begin with.

    Returns
    -------
    variables : dict
    seed_group : list of str
        The groups of the further fits.
    """
    found = [_of_session(held, [fit[i] for fit in fits]) for i, held in enumerate(sessions)]
    value = _beside([one.similarity for one in found])
    null = np.stack([_beside(cells) for cells in zip(*(one.null for one in found), strict=True)])
    text = "Unbiased linear CKA with a group of a fit from another seed, on held-out images."
    data = measured("seed_similarity", ("group", "seed_group"), value, text, null=null)
    n_seeds = np.concatenate([one.n_fits for one in found])
    text = f"Of {len(fits) - 1} fits from other seeds, those with a group of its cluster."
    data["n_seeds"] = (("group",), n_seeds, text)
    strangers = np.concatenate([np.full(len(one.n_fits), one.strangers) for one in found])
    text = "Largest CKA of two different groups of one fit: what is one concept is more alike."
    data["strangers"] = (("group",), strangers, text)
    own: list[np.ndarray] = []
    other: list[np.ndarray] = []
    n_clusters = 0
    for one in found:
        shifted = [np.where(cluster < 0, -1, cluster + n_clusters) for cluster in one.cluster]
        own, other = [*own, shifted[0]], [*other, *shifted[1:]]
        n_clusters += 1 + max(int(cluster.max()) for cluster in one.cluster)
    data["seed_concept"] = (
        ("group",),
        np.concatenate(own),
        "Cluster over fits from several seeds; -1 for none.",
    )
    text = "Cluster of the groups of the other fits; -1 for none."
    data["seed_concept_of"] = (("seed_group",), np.concatenate(other), text)
    labels = [
        f"{name}fit {k + 1}: {group}"
        for name, held in zip(names, sessions, strict=True)
        for k in range(1, len(fits))
        for group in held.latents.groups
    ]
    return data, labels


def _beside(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Put blocks of sessions on a diagonal, NaN elsewhere."""
    n, m = (np.cumsum([0, *(block.shape[axis] for block in blocks)]) for axis in (0, 1))
    whole = np.full((n[-1], m[-1]), np.nan)
    for i, block in enumerate(blocks):
        whole[n[i] : n[i + 1], m[i] : m[i + 1]] = block
    return whole


class SeedGroups:
    """What the fits of one session have in common.

    Attributes
    ----------
    strangers : float
        From `largest_between_strangers`.
    similarity : numpy.ndarray, shape (n_groups, n_other_groups)
        Unbiased CKA of the first fit's groups with all groups of the others.
    null : numpy.ndarray, shape (n_permutations, n_groups, n_other_groups)
    cluster : list of numpy.ndarray of int, shape (n_groups,)
        Of each fit; -1 for none.
    n_fits : numpy.ndarray of int, shape (n_groups,)
        Other fits with a group in the same cluster.

    Parameters
    ----------
    groups : sequence of list of array (image, latent)
        Of each fit.
    order : array of int (permutation, image)
    """

    def __init__(self, groups: Sequence[Groups], order: np.ndarray):
        self.strangers = largest_between_strangers(groups)
        of_fit = np.repeat(np.arange(len(groups)), [len(fit) for fit in groups])
        every, n = [z for fit in groups for z in fit], len(groups[0])
        value, p = np.full((2, len(every), len(every)), np.nan)
        self.null = np.empty((len(order), n, len(every) - n))
        for i, j in combinations(range(len(every)), 2):
            if of_fit[i] == of_fit[j]:
                continue
            value[i, j], null = unbiased_cka(every[i], every[j], order)
            p[i, j] = permutation_p(value[i, j], null)
            if i < n:
                self.null[:, i, j - n] = null
        self.similarity = value[:n, n:]
        cluster = _joined(value, p, strangers=self.strangers)
        self.cluster = [cluster[of_fit == k] for k in range(len(groups))]
        members = [set(own[own >= 0].tolist()) for own in self.cluster[1:]]
        self.n_fits = np.array([sum(c in own for own in members) for c in self.cluster[0].tolist()])


def _of_session(held: Held, fits: Sequence[np.ndarray]) -> SeedGroups:
    rng = held.rng(45)
    rows = np.sort(rng.permutation(held.test)[:MOST_IMAGES])
    order = held.design.split[rows].permutations(held.config.evidence.n_permutations, rng)
    parts = [held.latents.groups.split(np.asarray(z, np.float64)[rows]) for z in fits]
    return SeedGroups([list(own.values()) for own in parts], order)


def largest_between_strangers(groups: Sequence[Groups]) -> float:
    """Return the largest unbiased CKA of two different groups of one fit; 0 where each has one."""
    none = np.empty((0, len(groups[0][0])), dtype=np.int64)
    pairs = (unbiased_cka(a, b, none)[0] for fit in groups for a, b in combinations(fit, 2))
    return float(max([0.0, *(value for value in pairs if np.isfinite(value))]))


def _joined(value: np.ndarray, p: np.ndarray, *, strangers: float) -> np.ndarray:
    """Cluster groups of several fits, (group,) int; -1 for none.

    Two groups of different fits are joined where their CKA is larger than that of any two different groups of
    one fit, and beyond that of permuted images (q below .05 over all pairs). All groups of a session encode
    the same responses, noise included: beyond chance alone says nothing of them. Clusters are those of DBSCAN
    in which two make one.

    Parameters
    ----------
    value, p : array (group, group)
        CKA and its p-value; NaN for groups of one fit, and below the diagonal.
    strangers : float
        From `largest_between_strangers`.
    """
    from sklearn.cluster import DBSCAN

    joined = (np.nan_to_num(benjamini_hochberg(p), nan=1.0) < LEVEL) & (value > strangers)
    distance = 1.0 - (joined | joined.T | np.eye(len(value), dtype=bool))
    return DBSCAN(eps=0.5, min_samples=2, metric="precomputed").fit_predict(distance)
