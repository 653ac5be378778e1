"""How well each label can be read from each latent group, across folds of held-out stimuli."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nwb_migvis.evidence.disentanglement import bin_indices, mutual_information
from nwb_migvis.evidence.gaps import N_RESAMPLES, LabelReadings, gap_intervals, mig_interval
from nwb_migvis.evidence.labels import above_chance, by_presence
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, LabelCode, code_labels, select
from nwb_migvis.levels import Exchange

N_FEATURES = 512
"""Random Fourier features."""
PENALTIES = np.logspace(-3, 2, 11)
"""Candidates, relative to the number of stimuli. With about as many features as stimuli generalised
cross-validation favours smaller ones that all but interpolate."""
MIN_STIMULI = 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a label is read in folds, and tested.

    Parameters
    ----------
    exchange : Exchange
        What stays together in folds and permutations.
    n_folds, n_permutations : int
    seed : int
    """

    exchange: Exchange
    seed: int
    n_folds: int = 5
    n_permutations: int = 999


def read_folds(
    latents: np.ndarray,
    goals: np.ndarray,
    *,
    fold: np.ndarray,
    seed: int,
    penalties: np.ndarray = PENALTIES,
) -> np.ndarray:
    """Predict goals (stimulus, assignment, column) from latents, each fold (stimulus,) from the others."""
    features = _fourier_features(latents, rng=np.random.default_rng(seed))
    folds = [_Fold(features, fold == k) for k in np.unique(fold)]
    most = max(2000 // goals.shape[2], 1)
    parts = [_read(goals[:, i : i + most], folds, penalties) for i in range(0, goals.shape[1], most)]
    return np.concatenate(parts, axis=1)


class Readings:
    """Readings of labels from latents, fitted on some stimuli and applied to others.

    Parameters
    ----------
    latents : array (stimulus, latent)
    seed : int
        Of the random Fourier features.
    """

    def __init__(self, latents: np.ndarray, *, seed: int) -> None:
        self._latents, self._seed = latents, seed
        self._folds: dict[bytes, _Fold] = {}

    def read(
        self, goal: np.ndarray, *, train: np.ndarray, new: np.ndarray, penalties: np.ndarray = PENALTIES
    ) -> np.ndarray:
        """Return the readings (new stimulus, column) of a goal (stimulus, column).

        Parameters
        ----------
        goal : array (stimulus, column)
        train, new : array of bool (stimulus,)
        penalties : array
            To choose from by generalised cross-validation.
        """
        rows = np.flatnonzero(train | new)
        key = train.tobytes() + new.tobytes()
        if key not in self._folds:
            features = _fourier_features(self._latents[rows], rng=np.random.default_rng(self._seed))
            self._folds[key] = _Fold(features, new[rows])
        return self._folds[key].read(goal[rows], penalties)


def decode_labels(
    latents: np.ndarray,
    labels: Mapping[str, Label],
    *,
    groups: LatentGroups,
    exchanges: Mapping[str, Exchange] | None = None,
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
    labels : mapping of str to Label (stimulus,)
    groups : LatentGroups
        A group's own labels, those that supervise it, are tested together.
    exchanges : mapping of str to Exchange, optional
        Levels of the stimuli that stay together in the folds and permutations of each label; every stimulus
        is on its own where it is None.
    n_folds : int
    n_permutations : int
        B of the null in which whole levels are permuted against their labels and everything is fitted
        anew, p = (1 + k) / (1 + B); 0 makes no test.
    seed : int

    Returns
    -------
    xarray.Dataset
        Over (group, label): `score`, `scaled` (the same with 0 for guesses and 1 for perfect), `chance` (the
        score's mean over the permutations), `p_value`, `q_value` (of Benjamini and Hochberg over all cells)
        and `information` (nats, see `disentanglement.mutual_information`). Over label: `score_all` from all
        latents, `entropy` (nats), `mig_low` and `mig_high`, the ends of the interval of the information gap.
        Over group: `own_score` and `own_p`, the mean over the group's own labels and its p-value under the
        same permutations; `gap_low` and `gap_high`, the ends of the interval of `own_group_gap`. Intervals
        need permutations. Labels that different stimuli have are tested apart, and the smallest p-value is
        multiplied by the number of tests. Scores are R2 (over cosine and sine together for a label that
        wraps) or balanced accuracy (the mean over classes of the share that is read right). They are NaN
        where a label does not vary or fewer than twenty stimuli have one.
    """
    codes = {code.name: code for code in code_labels(labels)}
    encoded = {name: code.encode(labels[name].values) for name, code in codes.items()}
    table = _Table(groups, list(labels))
    for present, names, exchange in _tested_together(encoded, exchanges):
        if present.sum() < MIN_STIMULI or exchange.n_levels < n_folds:
            continue
        rng = np.random.default_rng(seed)
        fold = exchange.folds(n_folds, rng)
        orders = exchange.permutations(n_permutations, rng)
        goals = {name: encoded[name][present] for name in names}
        values = {name: label.values for name, label in select(labels, present).items()}
        bins = {name: bin_indices(codes[name], values[name]) for name in names}
        reads: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
        binned: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
        for group, own in _subsets(groups).items():
            features = _fourier_features(latents[present][:, own], rng=np.random.default_rng(seed))
            folds = [_Fold(features, fold == k) for k in range(n_folds)]
            null = {}
            for name in names:
                code, goal = codes[name], goals[name]
                read = _read(goal[:, None], folds)
                score = float(_score(code, read, goal[:, None])[0])
                table.put("score", group, name, score)
                if group is not None:
                    n_classes = int((goal > 0).any(axis=0).sum()) if code.classes else 0
                    table.put(
                        "scaled", group, name, float(above_chance(score, n_classes)) if n_classes else score
                    )
                read_bins = bin_indices(code, values[name], code.decode(read[:, 0]))
                table.put_information(group, name, bins[name], read_bins)
                if group is not None:
                    reads[name][group], binned[name][group] = read[:, 0], read_bins
                if n_permutations and group is not None:
                    null[name] = _null_scores(code, goal, orders, folds)
            table.put_tests(group, null)
        for name in names:
            table.readings[name] = LabelReadings.spread(
                present,
                goal=goals[name],
                read=reads[name],
                is_category=bool(codes[name].classes),
                bins=bins[name],
                read_bins=binned[name],
            )
    if n_permutations:
        levels = next(iter(exchanges.values())) if exchanges else Exchange.singles(len(latents))
        table.put_intervals(levels, seed)
    return table.dataset()


def _tested_together(
    encoded: Mapping[str, np.ndarray], exchanges: Mapping[str, Exchange] | None
) -> Iterator[tuple[np.ndarray, list[str], Exchange]]:
    """Yield the labels that the same stimuli have and that are exchanged alike, with what is exchanged."""
    for present, names in by_presence(encoded):
        if exchanges is None:
            yield present, names, Exchange.singles(int(present.sum()))
            continue
        kinds = {exchanges[name].level.tobytes(): exchanges[name] for name in names}
        for key, exchange in kinds.items():
            own = [name for name in names if exchanges[name].level.tobytes() == key]
            yield present, own, exchange[present]


def _subsets(groups: LatentGroups) -> dict[str | None, np.ndarray]:
    """Indices of the latents of each group, and of all together under None."""
    every = np.arange(groups.n_latents)
    own: dict[str | None, np.ndarray] = {None: every}
    own.update({name: every[place] for name, place in groups.slices.items()})
    return own


_BY_CELL = ("score", "scaled", "chance", "p_value", "information")
_BY_LABEL = ("score_all", "entropy", "mig_low", "mig_high")
_BY_GROUP = ("own_score", "own_p", "gap_low", "gap_high")


class _Table:
    """Collects what `decode_labels` returns."""

    def __init__(self, groups: LatentGroups, labels: list[str]) -> None:
        self._own = {g: [name for name in its if name in labels] for g, its in groups.supervised_by.items()}
        self._own_tests: dict[str, list[float]] = {g: [] for g in groups}
        self.readings: dict[str, LabelReadings] = {}
        both = ("group", "label")
        sizes = (len(groups), len(labels))
        self._table = xr.Dataset(
            {
                **{n: (both, np.full(sizes, np.nan)) for n in _BY_CELL},
                **{n: (("label",), np.full(len(labels), np.nan)) for n in _BY_LABEL},
                **{n: (("group",), np.full(len(groups), np.nan)) for n in _BY_GROUP},
            },
            coords={"group": np.array(groups.names, dtype=object), "label": np.array(labels, dtype=object)},
        )

    def put(self, name: str, group: str | None, label: str, value: float) -> None:
        if group is None:
            self._table[f"{name}_all"].loc[{"label": label}] = value
        else:
            self._table[name].loc[{"group": group, "label": label}] = value

    def put_information(self, group: str | None, label: str, truth: np.ndarray, read: np.ndarray) -> None:
        if group is None:
            self._table["entropy"].loc[{"label": label}] = mutual_information(truth, truth)
        else:
            self.put("information", group, label, mutual_information(truth, read))

    def put_tests(self, group: str | None, null: Mapping[str, np.ndarray]) -> None:
        """Compare the scores of one group with those of permuted labels, (permutation,) by label."""
        if group is None or not null:
            return
        for label, values in null.items():
            score = self._table["score"].sel(group=group, label=label).item()
            self.put("chance", group, label, values.mean())
            self.put("p_value", group, label, float(permutation_p(score, values)))
        own = [label for label in self._own[group] if label in null]
        if own:
            observed = float(self._table["score"].sel(group=group, label=own).mean())
            together = np.mean([null[label] for label in own], axis=0)
            self._own_tests[group].append(float(permutation_p(observed, together)))

    def put_intervals(self, exchange: Exchange, seed: int) -> None:
        """Resample whole levels of the stimuli for the intervals of the gaps between groups."""
        weight = exchange.bootstrap(N_RESAMPLES, np.random.default_rng(seed))
        rng = np.random.default_rng([seed, 1])
        if len(self._own) > 1:
            for label, readings in self.readings.items():
                ends = mig_interval(readings, weight, rng)
                for end, value in zip(("low", "high"), ends, strict=True):
                    self._table[f"mig_{end}"].loc[{"label": label}] = value
        for group, gap in gap_intervals(self.readings, weight, supervised_by=self._own).items():
            for end, value in zip(("low", "high"), gap, strict=True):
                self._table[f"gap_{end}"].loc[{"group": group}] = value

    def dataset(self) -> xr.Dataset:
        for group, own in self._own.items():
            scores = self._table["score"].sel(group=group, label=own).values
            tests = self._own_tests[group]
            place = {"group": group}
            if np.isfinite(scores).any():
                self._table["own_score"].loc[place] = np.nanmean(scores)
            if tests:
                self._table["own_p"].loc[place] = min(1.0, len(tests) * min(tests))
        q = benjamini_hochberg(self._table["p_value"].values)
        return self._table.assign(q_value=(("group", "label"), q))


def own_group_gap(score: xr.DataArray, *, supervised_by: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Decoding of a group's own labels from it, minus that from the best other group.

    Parameters
    ----------
    score : xarray.DataArray (group, label)
        On one scale: 0 for guesses, 1 for perfect.
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

    def __init__(self, features: np.ndarray, held_out: np.ndarray) -> None:
        self.held_out = held_out
        x = features[~held_out]
        mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
        x = (x - mean) / scale
        tall = len(x) > x.shape[1]
        squared, axes = np.linalg.eigh(x.T @ x if tall else x @ x.T)
        carried = squared > 1e-9 * squared.max()
        self._squared, axes = squared[carried], axes[:, carried]
        axes = axes if tall else x.T @ axes / np.sqrt(self._squared)
        self._x, self._new = x @ axes, (features[held_out] - mean) / scale @ axes

    def read(self, goals: np.ndarray, penalties: np.ndarray = PENALTIES) -> np.ndarray:
        """Predict columns (stimulus, column) on this fold, each with a penalty of its own."""
        y = goals[~self.held_out]
        centre = y.mean(axis=0)
        along = self._x.T @ (y - centre)
        share = along**2 / self._squared[:, None]
        outside = ((y - centre) ** 2).sum(axis=0) - share.sum(axis=0)
        shrinkage = self._squared / (self._squared + penalties[:, None] * len(y))
        freedom = np.maximum(len(y) - 1 - shrinkage.sum(axis=1), 1e-9)
        best = np.argmin((outside + (1 - shrinkage) ** 2 @ share) / freedom[:, None] ** 2, axis=0)
        return self._new @ (shrinkage[best].T / self._squared[:, None] * along) + centre


def _read(goals: np.ndarray, folds: list[_Fold], penalties: np.ndarray = PENALTIES) -> np.ndarray:
    """Predict goals (stimulus, assignment, column), each fold from the others."""
    predicted = np.empty_like(goals)
    columns = goals.reshape(len(goals), -1)
    for fold in folds:
        predicted[fold.held_out] = fold.read(columns, penalties).reshape(-1, *goals.shape[1:])
    return predicted


def _score(code: LabelCode, read: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Scores of one label under several assignments: goals (stimulus, assignment, column)."""
    if code.classes:
        right = (read.argmax(axis=2) == goals.argmax(axis=2))[:, :, None] & (goals > 0)
        n = (goals > 0).sum(axis=0)
        return (right.sum(axis=0) / np.maximum(n, 1)).sum(axis=1) / (n > 0).sum(axis=1)
    error = ((read - goals) ** 2).sum(axis=(0, 2))
    return 1 - error / ((goals - goals.mean(axis=0)) ** 2).sum(axis=(0, 2))


def _null_scores(code: LabelCode, goal: np.ndarray, orders: np.ndarray, folds: list[_Fold]) -> np.ndarray:
    """Scores of labels permuted over stimuli, (permutation,); in parts that bound the memory."""
    n_parts = -(-len(orders) * goal.shape[1] // 2000)
    scores = []
    for part in np.array_split(orders, n_parts):
        goals = goal[part].transpose(1, 0, 2)
        scores.append(_score(code, _read(goals, folds), goals))
    return np.concatenate(scores)


def _fourier_features(latents: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Latents and random cosines of them, (stimulus, feature)."""
    z = latents - latents.mean(axis=0)
    z = z / np.maximum(z.std(axis=0), 1e-12)
    # Standardised latents of d dimensions lie about sqrt(2 d) apart.
    width = 2 * np.sqrt(2 * z.shape[1])
    frequency = rng.normal(size=(z.shape[1], N_FEATURES)) / width
    phase = rng.uniform(0, 2 * np.pi, size=N_FEATURES)
    return np.concatenate([z, np.sqrt(2) * np.cos(z @ frequency + phase)], axis=1)
