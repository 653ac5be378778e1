"""What edits of each group change, read by readers that guidance never used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.evidence.readers.protocol import Examples, Reader, reader_scores
from nwb_migvis.evidence.transfer import Draws, Transfer, category_transfer, numeric_transfer
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, LabelCode, select

BY_EDIT = (
    "transfer",
    "transfer_low",
    "transfer_high",
    "retention",
    "retention_low",
    "retention_high",
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
    unguided reconstruction) and `shuffled` against the nominal ones. Numeric labels are compared with
    the reader's readings of the real target and source images, categories with their true classes.

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
        `transfer`, `retention` with `_low` and `_high` ends of their 95 % intervals and `p_value` over
        (group, label, method, reader); `reader_score` over (label, reader); `si_transfer`, `si_strict`
        over (method, reader).
    """
    main = synthesized.isel(edit=np.flatnonzero(synthesized["role"].values == "main"))
    result = _measure(main, scoring, by="method", groups=groups)
    return result.assign(_indices(result, groups.supervised_by))


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
    return _measure(series, scoring, by=by, groups=groups).sortby(by)


def _measure(edits: xr.Dataset, scoring: EditScoring, *, by: str, groups: LatentGroups) -> xr.Dataset:
    """Transfer and retention of edits that share a group and a value of the coordinate `by`."""
    pairs = _Pairs.of(edits, scoring.stimulus, by=by)
    labels, readers = scoring.labels, scoring.readers
    dims: dict[str, list[Any]] = {
        "group": list(groups),
        "label": list(labels),
        by: list(dict.fromkeys(pairs.condition.tolist())),
        "reader": [reader.kind for reader in readers],
    }
    values = {name: np.full([len(names) for names in dims.values()], np.nan) for name in BY_EDIT}
    scores = np.full((len(labels), len(readers)), np.nan)
    for r, reader in enumerate(readers):
        score = reader_scores(reader, scoring.test_examples)
        scores[:, r] = list(score.values())
        codes = {code.name: code for code in reader.codes if score[code.name] >= scoring.min_reader_score}
        if not len(pairs.group):
            continue
        on_edits = reader.read(edits["image"].values)
        on_stimuli = _read_used(reader, scoring.images, pairs)
        for g, label, c in np.ndindex(values["transfer"].shape[:3]):
            name = dims["label"][label]
            if name not in codes:
                continue
            rows = pairs.rows(groups.names[g], dims[by][c])
            cell = _transfer(
                codes[name],
                on_edits[name][rows],
                on_stimuli[name],
                labels[name].values,
                pairs=(pairs.source[rows], pairs.target[rows]),
                draws=scoring.draws,
            )
            for key, value in zip(BY_EDIT, cell.values(), strict=True):
                values[key][g, label, c, r] = value
    variables = {name: (tuple(dims), array) for name, array in values.items()}
    variables["reader_score"] = (("label", "reader"), scores)
    coords = {
        name: np.array(ids, dtype=float if by == name != "method" else object) for name, ids in dims.items()
    }
    return xr.Dataset(variables, coords=coords)


def selectivity_index(
    transfer: Mapping[tuple[str, str], float],
    retention: Mapping[tuple[str, str], float],
    *,
    supervised_by: Mapping[str, Sequence[str]],
) -> tuple[float, float]:
    """Sum transfer and retention up over the supervised groups.

    For each group the transfer of its own labels minus the transfer of the other groups' labels, each
    averaged over the labels that were measured; then the mean over groups. The strict index subtracts
    1 - retention of the other groups' labels instead: whatever happened to them.

    Parameters
    ----------
    transfer, retention : mapping of (group, label) to float
        NaN where not measured.
    supervised_by : mapping of str to sequence of str
        Labels that supervise each group.

    Returns
    -------
    si_transfer, si_strict : float
        NaN with fewer than two groups that have a measured label of their own.
    """
    own = {
        group: [name for name in names if np.isfinite(transfer.get((group, name), np.nan))]
        for group, names in supervised_by.items()
    }
    own = {group: names for group, names in own.items() if names}
    if len(own) < 2:
        return np.nan, np.nan
    by_transfer, by_loss = [], []
    for group, names in own.items():
        others = [n for other, its in own.items() if other != group for n in its if n not in names]
        gained = _mean([transfer[group, name] for name in names])
        by_transfer.append(gained - _mean([transfer[group, name] for name in others]))
        by_loss.append(gained - _mean([1 - retention[group, name] for name in others]))
    return float(np.mean(by_transfer)), float(np.mean(by_loss))


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that were measured; NaN if none was."""
    measured = [value for value in values if np.isfinite(value)]
    return float(np.mean(measured)) if measured else float("nan")


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


def _transfer(
    code: LabelCode,
    on_edits: np.ndarray,
    on_stimuli: np.ndarray,
    truth: np.ndarray,
    *,
    pairs: tuple[np.ndarray, np.ndarray],
    draws: Draws,
) -> Transfer:
    source, target = pairs
    if code.classes:
        true_class = code.class_index(truth)
        read = on_edits.argmax(axis=1)
        return category_transfer(read, true_class[target], source=true_class[source], draws=draws)
    return numeric_transfer(on_edits, on_stimuli[target], source=on_stimuli[source], draws=draws)


def _indices(
    selectivity: xr.Dataset, supervised_by: Mapping[str, Sequence[str]]
) -> dict[str, tuple[tuple[str, str], np.ndarray]]:
    """Selectivity indices of each method and reader, as variables (method, reader)."""
    transfer, retention = selectivity["transfer"].values, selectivity["retention"].values
    cells = [(str(g), str(name)) for g in selectivity["group"].values for name in selectivity["label"].values]
    si_transfer, si_strict = np.full((2, *transfer.shape[2:]), np.nan)
    for m, r in np.ndindex(*si_transfer.shape):
        by_cell = (
            dict(zip(cells, values[:, :, m, r].ravel(), strict=True)) for values in (transfer, retention)
        )
        si_transfer[m, r], si_strict[m, r] = selectivity_index(*by_cell, supervised_by=supervised_by)
    dims = ("method", "reader")
    return {"si_transfer": (dims, si_transfer), "si_strict": (dims, si_strict)}
