"""What a session in which a run's edits were shown says of them: the record, as text, tables and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import printable, shown
from nwb_migvis.plain import Json, plain
from nwb_migvis.results.export import make_folder
from nwb_migvis.results.table import aligned, number, stars

CELL_COLUMNS = (
    "method",
    "edited",
    "group",
    "transfer",
    "transfer_low",
    "transfer_high",
    "retention",
    "retention_low",
    "retention_high",
    "p_value",
    "q_value",
    "n_pairs",
    "predicted_transfer",
    "predicted_retention",
)
"""Columns of `MeasuredEdits.cells`."""

LEVEL = 0.05

_TITLES = (("pmi", "{}"), ("none", "{} (no guidance)"), ("shuffled", "{} (shuffled targets)"))


@dataclass(frozen=True, eq=False)
class MeasuredEdits:
    """Edits of a run against responses that were measured to them.

    Attributes
    ----------
    name : str
        Of the run.
    cells : pandas.DataFrame
        One row per method, edited group and measured group: columns `CELL_COLUMNS`. The q-value of an edited
        group's own latents is adjusted over the groups, that of the others over all others. What the encoding
        check predicted stands beside it.
    groups : pandas.DataFrame
        Index `group`. `slope`, `slope_low`, `slope_high`, `correlation`: of the latents of real images in
        this session on those in the first one.
    units : pandas.DataFrame
        One row per unit of the run: `unit`, `measured_unit` ("" where it was not matched),
        `same_images` (correlation between the sessions over real images), `predicted` (correlation of
        predicted with measured mean counts over edits) and its `ceiling`, the root of the reliability.
    rates : xarray.Dataset
        Dims (edit, unit): `predicted`, `measured`, spikes per presentation. Coordinates `row` (edit; of
        the run's edits), `stimulus` (edit; as the session calls it) and `n_presentations` (edit).
    record : dict
        What was compared: files, window, numbers of pictures and units.
    notes : tuple of str
    """

    name: str
    cells: pd.DataFrame
    groups: pd.DataFrame
    units: pd.DataFrame
    rates: xr.Dataset
    record: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join(self.table().split("\n")[:12])

    @property
    def following(self) -> tuple[str, ...]:
        """Groups whose guided edits move the group's own measured latents to the target's: q < 0.05."""
        own = self.own()
        follows = (own["q_value"] < LEVEL) & (own["transfer_low"] > 0)
        return tuple(str(group) for group in own.index[follows])

    def own(self, method: str = "pmi") -> pd.DataFrame:
        """Return the cells of each edited group's own latents by one method, indexed by group."""
        cells = self.cells[(self.cells["method"] == method) & (self.cells["edited"] == self.cells["group"])]
        return cells.set_index("edited").drop(columns="group")

    def table(self) -> str:
        """Return everything as plain text, as the command line prints it."""
        record = self.record
        lines = [
            f"Run {self.name!r}: {record['n_edits']} edits and {record['n_real']} real images that "
            f"{Path(record['measured']).name} showed; {record['n_matched']} of {len(self.units)} units",
            "",
            "Edits in measured responses: transfer / retention of each group's latents",
            *self._cell_lines(),
            "predicted: transfer by the encoding check of the run; stars: q below 0.05 (*), 0.01 (**), "
            "0.001 (***)",
            "latents of real images in both sessions, correlation: "
            + ", ".join(f"{group} {number(row['correlation'])}" for group, row in self.groups.iterrows()),
            *self._unit_lines(),
            f"follow their targets (q < {LEVEL:g}): {', '.join(self.following) or 'none'}",
            *(f"note: {note}" for note in self.notes),
        ]
        return "\n".join(shown(printable(line)) for text in lines for line in text.split("\n"))

    def _cell_lines(self) -> list[str]:
        groups = list(self.groups.index)
        rows = []
        for method in dict.fromkeys(self.cells["method"]):
            title = dict(_TITLES).get(method, f"{{}} ({method})")
            for edited in groups:
                cells = self.cells[(self.cells["method"] == method) & (self.cells["edited"] == edited)]
                by_group = cells.set_index("group")
                own = by_group.loc[edited]
                rows.append(
                    [
                        title.format(edited),
                        *(_cell(by_group.loc[of], starred=of == edited) for of in groups),
                        number(own["predicted_transfer"]),
                    ]
                )
        return [aligned(pd.DataFrame(rows, columns=["edits of", *groups, "predicted"]).set_index("edits of"))]

    def _unit_lines(self) -> list[str]:
        lines = []
        same = self.units["same_images"].to_numpy(float)
        if np.isfinite(same).any():
            lines.append(f"units over real images in both sessions: median correlation {_median(same)}")
        if np.isfinite(self.units["predicted"]).any():
            lines.append(
                "predicted against measured counts of a unit over edits: median correlation "
                f"{_median(self.units['predicted'])}, ceiling {_median(self.units['ceiling'])}"
            )
        return lines

    def to_dict(self) -> Json:
        """Return everything but the single rates as plain values for JSON, NaN as null."""
        tables = {
            "cells": self.cells.to_dict("records"),
            "groups": self.groups.reset_index().to_dict("records"),
            "units": self.units.to_dict("records"),
        }
        about = {"name": self.name, "following": list(self.following), **self.record}
        return plain({**about, **tables, "notes": list(self.notes)}, finite=True)

    def to_tables(self, folder: str | Path) -> list[Path]:
        """Write `cells.csv`, `groups.csv`, `units.csv` and `rates.csv` into a new or an empty folder.

        Raises
        ------
        MigvisError
            If the folder exists and is not empty.
        """
        folder = Path(folder)
        make_folder(folder)
        rates = self.rates.to_dataframe().reset_index()
        tables = {
            "cells": self.cells,
            "groups": self.groups.reset_index(),
            "units": self.units,
            "rates": rates,
        }
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False)
        return [folder / f"{name}.csv" for name in tables]


def _cell(cell: Any, *, starred: bool) -> str:
    if not np.isfinite(cell["transfer"]):
        return "-"
    mark = stars(cell["q_value"]) if starred and cell["transfer"] > 0 else ""
    return f"{cell['transfer']:.2f}{mark} / {cell['retention']:.2f}"


def _median(values: Any) -> str:
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    return number(float(np.median(finite))) if finite.size else "-"
