"""What edits of each group change, read by readers that guidance never used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.evidence.intervals import kinked_interval
from nwb_migvis.evidence.readers.protocol import Examples, Reader, reader_scores
from nwb_migvis.evidence.significance import benjamini_hochberg
from nwb_migvis.evidence.transfer import Confusion, Draws, Transfer, category_transfer, numeric_transfer
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, LabelCode, select

BY_EDIT = (
    *(f"{name}{end}" for name in ("transfer", "retention") for end in ("", "_low", "_high")),
    "p_value",
)
"""Variables of dims (group, label, method, reader)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EditScoring:
    """What edits are read with and compared to.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n_stimuli, y, x) or (n_stimuli, y, x, channel)
        The stimuli at the size of the edits.
    stimulus : sequence of str
        Id of each, as `source` and `target` of the edits give them.
    labels : mapping of str to Label (n_stimuli,)
    readers : sequence of Reader
    test : numpy.ndarray of bool, shape (n_stimuli,)
        Stimuli that readers were not trained on, for their scores.
    draws : Draws
    min_reader_score : float
        A label that a reader scores worse on is not measurable by it: NaN.
    """

    images: np.ndarray
    stimulus: Sequence[str]
    labels: Mapping[str, Label]
    readers: Sequence[Reader]
    test: np.ndarray
    draws: Draws
    min_reader_score: float = 0.3

    @property
    def test_examples(self) -> Examples:
        """The test stimuli with their labels."""
        test = np.asarray(self.test, dtype=bool)
        return Examples(self.images[test], select(self.labels, test))


def measure_selectivity(synthesized: xr.Dataset, scoring: EditScoring, *, groups: LatentGroups) -> xr.Dataset:
    """Measure for every group, label, method and reader how far edits move the label.

    Only edits of role `main` count. Each is scored against its own target and source, for `none` (the
    unguided reconstruction) and `shuffled` against the nominal ones. The reader's errors are corrected for:
    numeric labels are compared with its readings of the real target and source images, their true values
    being the instruments; for categories with the rates at which it confuses the classes of the test images.

    Parameters
    ----------
    synthesized : xarray.Dataset
        `image` (edit, y, x (, channel)) uint8 with the coordinates `group`, `source`, `target`, `method`
        and `role`.
    scoring : EditScoring
    groups : LatentGroups

    Returns
    -------
    xarray.Dataset
        `transfer`, `retention` with `_low` and `_high` ends of their 95 % intervals, `p_value` and `q_value`
        (adjusted over all cells) over (group, label, method, reader); `reader_score` over (label, reader);
        `si_transfer`, `si_strict` with the ends of their intervals over (method, reader).
    """
    main = synthesized.isel(edit=np.flatnonzero(synthesized["role"].values == "main"))
    result, resampled = _measure(main, scoring, by="method", groups=groups)
    q = benjamini_hochberg(result["p_value"].values)
    result["q_value"] = (result["p_value"].dims, q)
    return result.assign(_indices(result, resampled, groups.supervised_by))


def dose_response(
    synthesized: xr.Dataset,
    scoring: EditScoring,
    *,
    groups: LatentGroups,
    by: str = "guidance",
) -> xr.Dataset:
    """Measure transfer and retention at each dose of the edits of role `dose`.

    Parameters
    ----------
    synthesized : xarray.Dataset
        As in `measure_selectivity`.
    scoring : EditScoring
    groups : LatentGroups
    by : {"guidance", "strength"}
        The coordinate of the edits that is the dose.

    Returns
    -------
    xarray.Dataset
        The variables of `measure_selectivity` without the indices, over (group, label, `by`, reader)
        with rising doses.
    """
    series = synthesized.isel(edit=np.flatnonzero(synthesized["role"].values == "dose"))
    return _measure(series, scoring, by=by, groups=groups)[0].sortby(by)


def _measure(
    edits: xr.Dataset, scoring: EditScoring, *, by: str, groups: LatentGroups
) -> tuple[xr.Dataset, np.ndarray]:
    """Transfer and retention of edits that share a group and a value of the coordinate `by`.

    Beside them the resamples of both, (group, label, `by`, reader, resample, 2).
    """
    pairs = _Pairs.of(edits, scoring.stimulus, by=by)
    labels, readers = scoring.labels, scoring.readers
    dims: dict[str, list[Any]] = {
        "group": list(groups),
        "label": list(labels),
        by: list(dict.fromkeys(pairs.condition.tolist())),
        "reader": [reader.kind for reader in readers],
    }
    shape = [len(names) for names in dims.values()]
    values = {name: np.full(shape, np.nan) for name in BY_EDIT}
    resampled = np.full([*shape, scoring.draws.n_bootstrap, 2], np.nan)
    scores = np.full((len(labels), len(readers)), np.nan)
    for r, reader in enumerate(readers):
        on_test = reader.read(scoring.test_examples.images)
        score = reader_scores(reader, scoring.test_examples, readings=on_test)
        scores[:, r] = list(score.values())
        codes = {code.name: code for code in reader.codes if score[code.name] >= scoring.min_reader_score}
        if not len(pairs.group):
            continue
        on_edits = reader.read(edits["image"].values)
        on_stimuli = _read_used(reader, scoring.images, pairs)
        of_labels = {
            name: _LabelReading(codes[name], labels[name], on_stimuli[name], on_test[name], scoring.test)
            for name in codes
        }
        for g, label, c in np.ndindex(*shape[:3]):
            name = dims["label"][label]
            if name not in codes:
                continue
            rows = pairs.rows(groups.names[g], dims[by][c])
            ends = pairs.source[rows], pairs.target[rows]
            cell = of_labels[name].transfer(on_edits[name][rows], ends, scoring.draws)
            for key, value in zip(BY_EDIT, cell.values(), strict=True):
                values[key][g, label, c, r] = value
            if cell.resampled is not None:
                resampled[g, label, c, r] = cell.resampled
    variables = {name: (tuple(dims), array) for name, array in values.items()}
    variables["reader_score"] = (("label", "reader"), scores)
    coords = {
        name: np.array(ids, dtype=float if by == name != "method" else object) for name, ids in dims.items()
    }
    return xr.Dataset(variables, coords=coords), resampled


def selectivity_index(
    transfer: Mapping[tuple[str, str], np.ndarray | float],
    retention: Mapping[tuple[str, str], np.ndarray | float],
    *,
    supervised_by: Mapping[str, Sequence[str]],
) -> tuple[np.ndarray, np.ndarray]:
    """Sum transfer and retention up over the supervised groups.

    Every transfer and retention a enters as 1 - |1 - a|, so that overshoot of one label does not pay for
    shortfall of another. For each group the transfer of its own labels minus the transfer of the other
    groups' labels, each averaged over the labels that were measured; then the mean over groups. The strict
    index subtracts 1 - retention of the other groups' labels instead: whatever happened to them.

    Parameters
    ----------
    transfer, retention : mapping of (group, label) to float, or to array (resample,)
        NaN where not measured.
    supervised_by : mapping of str to sequence of str
        Labels that supervise each group.

    Returns
    -------
    si_transfer, si_strict : array () or (resample,)
        NaN with fewer than two groups that have a measured label of their own.
    """
    own = {
        group: [name for name in names if np.isfinite(transfer.get((group, name), np.nan)).any()]
        for group, names in supervised_by.items()
    }
    own = {group: names for group, names in own.items() if names}
    if len(own) < 2:
        nothing = np.full(np.shape(next(iter(transfer.values()), np.nan)), np.nan)
        return nothing, nothing
    by_transfer, by_loss = [], []
    for group, names in own.items():
        others = [n for other, its in own.items() if other != group for n in its if n not in names]
        gained = _mean_score([transfer[group, name] for name in names])
        by_transfer.append(gained - _mean_score([transfer[group, name] for name in others]))
        by_loss.append(gained - 1 + _mean_score([retention[group, name] for name in others]))
    return np.mean(by_transfer, axis=0), np.mean(by_loss, axis=0)


def _mean_score(values: Sequence[np.ndarray | float]) -> np.ndarray:
    """Mean of 1 - |1 - a| over the values that were measured; NaN if none was."""
    scores = 1 - np.abs(1 - np.asarray(values, dtype=np.float64))
    n = np.isfinite(scores).sum(axis=0)
    return np.where(n > 0, np.nansum(scores, axis=0) / np.maximum(n, 1), np.nan)


@dataclass(frozen=True)
class _Pairs:
    """Group, condition, and rows of source and target among the stimuli of each edit, (edit,) each."""

    group: np.ndarray
    condition: np.ndarray
    source: np.ndarray
    target: np.ndarray

    @classmethod
    def of(cls, edits: xr.Dataset, stimulus: Sequence[str], *, by: str) -> _Pairs:
        place = {str(name): row for row, name in enumerate(stimulus)}
        source, target = (
            np.array([place[str(name)] for name in edits[end].values], dtype=np.int64)
            for end in ("source", "target")
        )
        return cls(edits["group"].values.astype(str), edits[by].values, source, target)

    def rows(self, group: str, condition: str | float) -> np.ndarray:
        return np.flatnonzero((self.group == group) & (self.condition == condition))


def _read_used(reader: Reader, images: np.ndarray, pairs: _Pairs) -> dict[str, np.ndarray]:
    """Readings of all stimuli, NaN for those that no pair uses."""
    used = np.unique(np.concatenate([pairs.source, pairs.target]))
    readings = {}
    for name, values in reader.read(images[used]).items():
        readings[name] = np.full((len(images), *values.shape[1:]), np.nan)
        readings[name][used] = values
    return readings


@dataclass(frozen=True, eq=False)
class _LabelReading:
    """How one reader reads one label.

    Parameters
    ----------
    code : LabelCode
    label : Label (n_stimuli,)
    on_stimuli : array (n_stimuli, ...)
        Readings; NaN where not needed.
    on_test : array (n_test, ...)
    test : array of bool (n_stimuli,)
    """

    code: LabelCode
    label: Label
    on_stimuli: np.ndarray
    on_test: np.ndarray
    test: np.ndarray

    @cached_property
    def _truth(self) -> np.ndarray:
        """True classes, or true values coded like the readings."""
        code, values = self.code, self.label.values
        return code.class_index(values) if code.classes else code.readings(values)

    @cached_property
    def _confusion(self) -> Confusion:
        test = np.asarray(self.test, dtype=bool)
        return Confusion(self._truth[test], self.on_test.argmax(axis=1), len(self.code.classes))

    def transfer(self, on_edits: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], draws: Draws) -> Transfer:
        source, target = pairs
        if self.code.classes:
            return category_transfer(
                on_edits,
                self._truth[target],
                source=self._truth[source],
                draws=draws,
                confusion=self._confusion,
                ends=pairs,
            )
        truth = self._truth
        return numeric_transfer(
            on_edits,
            self.on_stimuli[target],
            source=self.on_stimuli[source],
            draws=draws,
            truth=(truth[target], truth[source]),
            ends=pairs,
        )


def _indices(
    selectivity: xr.Dataset, resampled: np.ndarray, supervised_by: Mapping[str, Sequence[str]]
) -> dict[str, tuple[tuple[str, str], np.ndarray]]:
    """Selectivity indices of each method and reader with their intervals, as variables (method, reader)."""
    estimates = np.stack([selectivity[name].values for name in ("transfer", "retention")], axis=-1)
    cells = [(str(g), str(name)) for g in selectivity["group"].values for name in selectivity["label"].values]
    names = [f"{name}{end}" for name in ("si_transfer", "si_strict") for end in ("", "_low", "_high")]
    columns = {name: np.full(estimates.shape[2:4], np.nan) for name in names}

    def indices(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both indices of values (group, label, ..., 2)."""
        flat = values.reshape(len(cells), *values.shape[2:])
        by_cell = (dict(zip(cells, flat[..., i], strict=True)) for i in range(2))
        return selectivity_index(*by_cell, supervised_by=supervised_by)

    for m, r in np.ndindex(*estimates.shape[2:4]):
        pairs = zip(indices(estimates[:, :, m, r]), indices(resampled[:, :, m, r]), strict=True)
        for name, (estimate, draws) in zip(("si_transfer", "si_strict"), pairs, strict=True):
            columns[name][m, r] = estimate
            columns[f"{name}_low"][m, r], columns[f"{name}_high"][m, r] = kinked_interval(
                float(estimate), draws
            )
    return {name: (("method", "reader"), values) for name, values in columns.items()}
