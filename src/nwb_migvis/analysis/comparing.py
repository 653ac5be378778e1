"""Runs beside each other: other windows, areas, units or settings of one session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError, shown
from nwb_migvis.groups import LatentGroups
from nwb_migvis.plain import Json, nearest
from nwb_migvis.results import Results
from nwb_migvis.store import list_runs, read_results

MIN_SHARED = 10
"""Held-out stimuli that two runs must share before their latents are compared."""

_COLUMNS = (
    "size",
    "supervised_by",
    "variance_explained",
    "variance_unique",
    "decoding",
    "own_group_gap",
    "stability",
    "verdict",
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_runs` found.

    Attributes
    ----------
    groups : pandas.DataFrame
        One row per run and group: the columns of `Results.groups` that can be compared.
    similarity : xarray.DataArray, dims (group, other_group)
        Linear CKA of the latents of every group of every run with every other, over the stimuli that are
        held out in both runs; NaN where fewer than ten are. Coordinates `run` and `other_run`.
    settings : pandas.DataFrame
        One row per setting, or way of reading, in which runs differ; one column per run.
    """

    groups: pd.DataFrame
    similarity: xr.DataArray
    settings: pd.DataFrame

    def side_by_side(self, column: str = "variance_explained") -> pd.DataFrame:
        """Return one column of the groups with a row per group and a column per run, NaN where one lacks it.

        Raises
        ------
        MigvisError
            If no run has the column.
        """
        if column not in self.groups:
            names = nearest(column, map(str, self.groups.columns))
            raise MigvisError(f"found column {column!r}; expected one of {names}")
        groups, runs = (dict.fromkeys(self.groups.index.get_level_values(of)) for of in ("group", "run"))
        each = {run: self.groups.xs(run, level="run")[column].reindex(list(groups)) for run in runs}
        return pd.DataFrame(each).rename_axis(index="group", columns="run")

    def table(self) -> str:
        """Return variance, decoding and verdict of each group in every run, and what differs, as text."""
        parts = []
        for column in ("variance_explained", "decoding", "verdict"):
            if column in self.groups:
                wide = self.side_by_side(column)
                if column == "verdict":
                    wide = wide.map(lambda text: str(text).partition(":")[0] if text == text else "")
                parts.append(f"{column}\n{wide.to_string(na_rep='-', float_format='{:.3f}'.format)}")
        if len(self.settings):
            rows = [f"{key}: {' | '.join(map(str, row))}" for key, *row in self.settings.itertuples()]
            parts.append("\n".join(["settings that differ", *rows]))
        return "\n\n".join("\n".join(map(shown, part.splitlines())) for part in parts)

    def __repr__(self) -> str:
        runs = list(dict.fromkeys(self.groups.index.get_level_values("run")))
        lines = (
            f"Comparison of {len(runs)} runs: {', '.join(runs)}",
            f"{len(self.groups)} groups; {len(self.settings)} settings differ"
            f"{': ' if len(self.settings) else ''}{', '.join(self.settings.index[:6])}",
        )
        return "\n".join(map(shown, lines))


def compare_runs(path: str | Path | Sequence[Results], names: Sequence[str] | None = None) -> Comparison:
    """Set runs of one file, or results from anywhere, beside each other.

    Parameters
    ----------
    path : path, or sequence of Results
        A file that holds several runs; or the results themselves.
    names : sequence of str, optional
        Runs of the file, in order; all of them where it is None. With results, what to call them.

    Returns
    -------
    Comparison

    Raises
    ------
    MigvisError
        If there are fewer than two runs, or two of one name.
    """
    if isinstance(path, (str, Path)):
        chosen = list_runs(path) if names is None else list(names)
        runs = {name: read_results(path, name) for name in chosen}
        where = str(path)
    else:
        chosen = [results.name for results in path] if names is None else list(names)
        runs = dict(zip(chosen, path, strict=True))
        where = "the results"
    if len(runs) < max(2, len(chosen)):
        listing = ", ".join(chosen) or "none"
        raise MigvisError(f"{where}: found the runs {listing}; expected two or more of different names")
    return Comparison(_groups(runs), _similarity(runs), _settings(runs))


def _groups(runs: Mapping[str, Results]) -> pd.DataFrame:
    tables = {
        name: results.groups[[column for column in _COLUMNS if column in results.groups]]
        for name, results in runs.items()
    }
    return pd.concat(tables, names=["run", "group"])


def _similarity(runs: Mapping[str, Results]) -> xr.DataArray:
    from nwb_migvis.evidence.stability import linear_cka

    places = [(run, group) for run, results in runs.items() for group in results.groups.index]
    latents = {run: _held_out(results) for run, results in runs.items()}
    values = np.full((len(places), len(places)), np.nan)
    for i, (run, group) in enumerate(places):
        for j, (other_run, other_group) in enumerate(places[: i + 1]):
            a, b = latents[run], latents[other_run]
            shared = a[group].index.intersection(b[other_group].index)
            if len(shared) >= MIN_SHARED:
                cka = linear_cka(a[group].loc[shared].to_numpy(), b[other_group].loc[shared].to_numpy())
                values[i, j] = values[j, i] = cka
    names = [group for _, group in places]
    of = [run for run, _ in places]
    coords = {
        "group": names,
        "other_group": names,
        "run": ("group", of),
        "other_run": ("other_group", of),
    }
    return xr.DataArray(values, dims=("group", "other_group"), coords=coords, name="cka")


def _held_out(results: Results) -> dict[str, pd.DataFrame]:
    """Return the latents of the test stimuli of each group, with stimulus ids as index."""
    table = results.groups
    groups = LatentGroups(
        tuple(table.index),
        tuple(table["size"]),
        tuple(tuple(str(x).split(",")) for x in table["supervised_by"]),
    )
    test = results.latents["split"].values == "test"
    mean = results.latents["mean"].values[test].astype(np.float64)
    stimulus = results.latents["stimulus"].values[test]
    return {name: pd.DataFrame(part, index=stimulus) for name, part in groups.split(mean).items()}


def _settings(runs: Mapping[str, Results]) -> pd.DataFrame:
    flat = {
        name: {
            **_flattened(results.provenance.get("config", {})),
            **_flattened(results.provenance.get("reading", {}), "reading."),
            "n_units": results.units.sizes["unit"],
            "n_stimuli": results.latents.sizes["stimulus"],
        }
        for name, results in runs.items()
    }
    keys = list(dict.fromkeys(key for values in flat.values() for key in values))
    rows = {key: [flat[name].get(key) for name in flat] for key in keys}
    differing = {key: row for key, row in rows.items() if any(value != row[0] for value in row)}
    return pd.DataFrame.from_dict(differing, orient="index", columns=list(flat), dtype=object)


def _flattened(values: Mapping[str, Any], prefix: str = "") -> Json:
    flat: Json = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
