"""Whether two fits find the same groups: similarity of their latents, and the best matching of groups."""

from __future__ import annotations

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
