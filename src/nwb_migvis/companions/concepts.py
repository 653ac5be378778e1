"""Concepts: what the images at the ends of each group's direction share, and what two animals share."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.companions.ends import ENDS, Direction, directions
from nwb_migvis.companions.held import Held, described, held_sessions
from nwb_migvis.companions.images import image_features, principal_components
from nwb_migvis.companions.kernels import unbiased_cka
from nwb_migvis.companions.seeds import across_seeds
from nwb_migvis.companions.statistics import Variables, measured

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

N_ENDS = 8
"""Images at each end."""
MOST_SHARED = 400
"""Shared held-out images that groups of two sessions are compared on."""
_LEVEL = 0.05


class Concepts:
    """The analysis `concepts`."""

    needs = ("latents", "network")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Show both ends of each group, and cluster groups across sessions.

        Returns
        -------
        xarray.Dataset
            Over (group, end, rank): `image`. Over (group, end), where there are pixels: `coherence` (mean
            cosine of the features of these images) with null, p and q. For several sessions over (group,
            other): `similarity` (unbiased CKA on shared held-out images) with null, p and q; over group:
            `concept` (-1: none) and `n_sessions`, how many sessions its concept is found in. Groups have
            the names of their sessions before them then. Where latents were fitted from other seeds too (by
            `Study.measure`, or by `companions.refit`), over (group, seed_group): `seed_similarity` with null,
            p and q; over group: `n_seeds`, how many of these fits have it, and `strangers`.
        """
        sessions = held_sessions(study)
        names = [f"{held.name}: " if len(sessions) > 1 else "" for held in sessions]
        ends = [_ends(held) for held in sessions]
        groups = [f"{name}{one.group}" for name, (own, _) in zip(names, ends, strict=True) for one in own]
        data = _images(sessions, [own for own, _ in ends])
        coherence = [cells for _, cells in ends if cells is not None]
        if len(coherence) == len(ends):
            data |= measured(
                "coherence",
                ("group", "end"),
                np.concatenate([value for value, _ in coherence]),
                "Mean cosine between the features of the images at an end.",
                null=np.concatenate([null for _, null in coherence], axis=1),
            )
        coords: dict[str, object] = {"group": groups, "end": list(ENDS), "rank": np.arange(1, N_ENDS + 1)}
        headline = ["coherence"]
        if len(sessions) > 1:
            data |= _shared(sessions)
            coords["other"] = groups
            headline += ["concept", "n_sessions", "similarity"]
        if fits := study.reseeded(fit=study.config.companions.refit):
            latents = study.latents if isinstance(study.latents, list) else [study.latents]
            fits = [[own.mean for own in latents], *fits]
            found, coords["seed_group"] = across_seeds(sessions, fits, names)
            data |= found
            headline += ["n_seeds", "seed_similarity"]
        return described(
            data,
            coords,
            title="Concepts",
            description="Held-out images at the ends of each group, and groups that sessions share.",
            headline=headline,
        )


def _ends(held: Held) -> tuple[list[Direction], tuple[np.ndarray, np.ndarray] | None]:
    """Return a session's directions, and the coherence (group, end) of their ends with its null."""
    held.require_held_out(Concepts.min_images, to="concepts")
    own = directions(held)
    if "image" not in held.session:
        return own, None
    layers = image_features(held)
    features = principal_components(list(layers.values())[-1], train=held.train, seed=held.seed)[held.test]
    order = held.levels.permutations(held.config.evidence.n_permutations, held.rng(40))
    return own, coherence(features, [one.score for one in own], order)


def coherence(
    features: np.ndarray, scores: list[np.ndarray], order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how alike the images at the ends of each direction are.

    Parameters
    ----------
    features : array (image, feature)
    scores : list of array (image,)
    order : array of int (permutation, image)
        Which image's features each image gets.

    Returns
    -------
    value : array (direction, 2)
        At the low and the high end.
    null : array (permutation, direction, 2)
    """
    x = features - features.mean(axis=0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosine = x @ x.T
    own = [Direction("", score) for score in scores]
    rows = [[one.end(end, N_ENDS) for end in ENDS] for one in own]

    def mean(at: np.ndarray) -> np.ndarray:
        n = at.shape[-1]
        block = cosine[at[..., :, None], at[..., None, :]]
        return (block.sum(axis=(-2, -1)) - np.trace(block, axis1=-2, axis2=-1)) / (n * (n - 1))

    value = np.array([[mean(end) for end in ends] for ends in rows])
    null = np.array([[mean(order[:, end]) for end in ends] for ends in rows])
    return value, null.transpose(2, 0, 1)


def _images(sessions: list[Held], ends: list[list[Direction]]) -> Variables:
    names = []
    for held, own in zip(sessions, ends, strict=True):
        stimulus = held.session["stimulus"].values[held.test].astype(str)
        names += [[stimulus[one.end(end, N_ENDS)] for end in ENDS] for one in own]
    text = "Held-out image at an end of the group's first principal axis, the outermost first."
    return {"image": (("group", "end", "rank"), np.array(names), text)}


def _shared(sessions: list[Held]) -> Variables:
    """Compare the groups of every two sessions on their shared held-out images, and cluster them."""
    from sklearn.cluster import DBSCAN

    sizes = [len(held.latents.groups) for held in sessions]
    first = np.cumsum([0, *sizes])
    b, n = sessions[0].config.evidence.n_permutations, int(first[-1])
    value, null = np.full((n, n), np.nan), np.full((b, n, n), np.nan)
    for i, j in combinations(range(len(sessions)), 2):
        rows = shared_rows(sessions[i], sessions[j])
        if len(rows[0]) < Concepts.min_images:
            continue
        order = sessions[i].design.split[rows[0]].permutations(b, sessions[i].rng(41, i, j))
        for k, group in enumerate(sessions[i].latents.groups):
            for m, other in enumerate(sessions[j].latents.groups):
                z = sessions[i].spaces[group][rows[0]], sessions[j].spaces[other][rows[1]]
                at = first[i] + k, first[j] + m
                value[at], null[:, at[0], at[1]] = unbiased_cka(*z, order)
    data = measured(
        "similarity",
        ("group", "other"),
        value,
        "Unbiased linear CKA of two sessions' groups on shared held-out images; no value within a session.",
        null=null,
    )
    distance = 1 - np.clip(np.nan_to_num(value), 0, 1)
    distance = np.minimum(distance, distance.T)
    np.fill_diagonal(distance, 0)
    q = np.fmin(data["similarity_q"][1], data["similarity_q"][1].T)
    distance[~(q < _LEVEL) & ~np.eye(n, dtype=bool)] = 1
    concept = DBSCAN(eps=_reach(null), min_samples=2, metric="precomputed").fit_predict(distance)
    of_session = np.repeat(np.arange(len(sessions)), sizes)
    n_sessions = [len(set(of_session[concept == c])) if c >= 0 else 1 for c in concept]
    data["concept"] = (("group",), concept, "Cluster of groups across sessions; -1 for a group without one.")
    data["n_sessions"] = (("group",), np.array(n_sessions), "Sessions that the group's concept is found in.")
    return data


def _reach(null: np.ndarray) -> float:
    """Return the largest distance of two groups of a concept: their CKA is beyond the largest of the null."""
    largest = np.nanmax(null.reshape(len(null), -1), axis=1) if np.isfinite(null).any() else np.ones(1)
    return float(np.clip(1 - np.quantile(np.clip(largest, 0, 1), 1 - _LEVEL), 1e-6, 1))


def shared_rows(a: Held, b: Held) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the held-out images that two sessions share, in each."""
    names = [held.session["stimulus"].values.astype(str) for held in (a, b)]
    rows = [{str(names[i][r]): r for r in held.test} for i, held in enumerate((a, b))]
    both = [name for name in rows[0] if name in rows[1]]
    if len(both) > MOST_SHARED:
        both = [both[i] for i in np.sort(a.rng(42).choice(len(both), MOST_SHARED, replace=False))]
    return tuple(np.array([own[name] for name in both], dtype=np.int64) for own in rows)  # type: ignore[return-value]
