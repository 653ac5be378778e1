"""How well each label can be read from each latent group, across folds of held-out stimuli."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from nwb_migvis.evidence.labels import LabelCode, by_presence, code_labels
from nwb_migvis.evidence.significance import permutation_p, permutations

N_FEATURES = 512
"""Random Fourier features."""
PENALTIES = np.logspace(-3, 2, 11)
"""Candidates, relative to the number of stimuli. With about as many features as stimuli generalised
cross-validation favours smaller ones that all but interpolate."""
MIN_STIMULI = 20


def decode_labels(
    latents: np.ndarray,
    labels: Mapping[str, np.ndarray],
    *,
    groups: Mapping[str, tuple[int, int]],
    circular: Mapping[str, float] | None = None,
    n_folds: int = 5,
    n_permutations: int = 0,
    seed: int,
) -> xr.Dataset:
    """Decode each label from each group by ridge regression on random Fourier features.

    The features approximate a Gaussian kernel (Rahimi and Recht 2007) of twice the typical distance
    between latents; the latents themselves are added. Each fold's penalty is chosen by generalised
    cross-validation on the other folds.

    Parameters
    ----------
    latents : array (stimulus, latent)
        Of stimuli that the encoder was not trained on.
    labels : mapping of str to array (stimulus,)
    groups : mapping of str to (first, size)
    circular : mapping of str to float, optional
        Period of labels that wrap.
    n_folds : int
    n_permutations : int
        B of the null in which whole stimuli are permuted against their labels and everything is fitted
        anew, p = (1 + k) / (1 + B); 0 makes no test.
    seed : int

    Returns
    -------
    xarray.Dataset
        `score` and `p_value` over (group, label), `score_all` (label) from all latents. Scores are R2
        (over cosine and sine together for a label that wraps) or accuracy; NaN where a label does not
        vary or fewer than twenty stimuli have one.
    """
    codes = {code.name: code for code in code_labels(labels, circular=circular)}
    encoded = {name: code.encode(labels[name]) for name, code in codes.items()}
    subsets = [np.arange(first, first + size) for first, size in groups.values()]
    subsets.append(np.arange(latents.shape[1]))
    place = {name: column for column, name in enumerate(labels)}
    scores = np.full((len(subsets), len(labels)), np.nan)
    p_values = np.full((len(subsets), len(labels)), np.nan)
    for present, names in by_presence(encoded):
        if present.sum() < MIN_STIMULI:
            continue
        rng = np.random.default_rng(seed)
        fold = rng.permutation(np.arange(present.sum()) % n_folds)
        orders = permutations(int(present.sum()), n_permutations, rng=rng)
        for row, own in enumerate(subsets):
            features = _fourier_features(latents[present][:, own], rng=np.random.default_rng(seed))
            folds = [_Fold(features, fold == k) for k in range(n_folds)]
            for name in names:
                code, goal, column = codes[name], encoded[name][present], place[name]
                scores[row, column] = _score(code, goal[:, None], folds)[0]
                if n_permutations:
                    null = _null_scores(code, goal, orders, folds)
                    p_values[row, column] = permutation_p(scores[row, column], null)
    dims = ("group", "label")
    variables = {
        "score": (dims, scores[:-1]),
        "p_value": (dims, p_values[:-1]),
        "score_all": (("label",), scores[-1]),
    }
    coords = {
        "group": np.array(list(groups), dtype=object),
        "label": np.array(list(labels), dtype=object),
    }
    return xr.Dataset(variables, coords=coords)


def own_group_gap(score: xr.DataArray, *, supervised_by: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Decoding of a group's own labels from it, minus that from the best other group.

    Parameters
    ----------
    score : xarray.DataArray (group, label)
    supervised_by : mapping of str to sequence of str

    Returns
    -------
    dict of str to float
        For each supervised group; scores are averaged over its labels that have one. NaN if none has.
    """
    gaps = {}
    for group, names in supervised_by.items():
        own = score.sel(label=[name for name in names if name in score["label"].values]).dropna(
            "label", how="all"
        )
        if not names:
            continue
        if not own.sizes["label"] or own.sizes["group"] < 2:
            gaps[group] = float("nan")
            continue
        by_group = own.mean("label")
        gaps[group] = float(by_group.sel(group=group) - by_group.drop_sel(group=group).max())
    return gaps


class _Fold:
    """Ridge regression fitted on the stimuli of the other folds, ready for any labels."""

    def __init__(self, features: np.ndarray, held: np.ndarray) -> None:
        self.held = held
        x = features[~held]
        mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        self._x = (x - mean) / scale
        tall = len(x) > x.shape[1]
        squared, axes = np.linalg.eigh(self._x.T @ self._x if tall else self._x @ self._x.T)
        carried = squared > 1e-9 * squared.max()
        self._squared, axes = squared[carried], axes[:, carried]
        self._axes = axes if tall else self._x.T @ axes / np.sqrt(self._squared)
        self._new = (features[held] - mean) / scale @ self._axes

    def read(self, goals: np.ndarray) -> np.ndarray:
        """Predict columns (stimulus, column) on this fold, each with a penalty of its own."""
        y = goals[~self.held]
        centre = y.mean(axis=0)
        along = self._axes.T @ (self._x.T @ (y - centre))
        share = along**2 / self._squared[:, None]
        outside = ((y - centre) ** 2).sum(axis=0) - share.sum(axis=0)
        kept = self._squared / (self._squared + PENALTIES[:, None] * len(y))
        freedom = np.maximum(len(y) - 1 - kept.sum(axis=1), 1e-9)
        best = np.argmin((outside + (1 - kept) ** 2 @ share) / freedom[:, None] ** 2, axis=0)
        return self._new @ (kept[best].T / self._squared[:, None] * along) + centre


def _score(code: LabelCode, goals: np.ndarray, folds: list[_Fold]) -> np.ndarray:
    """Scores of one label under several assignments: goals (stimulus, assignment, column)."""
    read = np.empty_like(goals)
    columns = goals.reshape(len(goals), -1)
    for fold in folds:
        read[fold.held] = fold.read(columns).reshape(-1, *goals.shape[1:])
    if code.classes:
        return (read.argmax(axis=2) == goals.argmax(axis=2)).mean(axis=0)
    error = ((read - goals) ** 2).sum(axis=(0, 2))
    return 1 - error / ((goals - goals.mean(axis=0)) ** 2).sum(axis=(0, 2))


def _null_scores(code: LabelCode, goal: np.ndarray, orders: np.ndarray, folds: list[_Fold]) -> np.ndarray:
    """Scores of labels permuted over stimuli, (permutation,); in parts that bound the memory."""
    n_parts = -(-len(orders) * goal.shape[1] // 2000)
    parts = np.array_split(orders, n_parts)
    return np.concatenate([_score(code, goal[part].transpose(1, 0, 2), folds) for part in parts])


def _fourier_features(latents: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Latents and random cosines of them, (stimulus, feature)."""
    z = latents - latents.mean(axis=0)
    z = z / np.maximum(z.std(axis=0), 1e-12)
    # Standardised latents of d dimensions lie about sqrt(2 d) apart.
    width = 2 * np.sqrt(2 * z.shape[1])
    frequency = rng.normal(size=(z.shape[1], N_FEATURES)) / width
    phase = rng.uniform(0, 2 * np.pi, size=N_FEATURES)
    return np.concatenate([z, np.sqrt(2) * np.cos(z @ frequency + phase)], axis=1)
