"""Units of a file: which of them are asked for, and where their spike times are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import scalar_columns
from nwb_migvis.read.counting import count_spikes


@dataclass(frozen=True)
class SpikeTable:
    """The spike times of a table of units.

    Attributes
    ----------
    place : str
        Name of the table.
    ids : numpy.ndarray
        (unit,) int64, the table's ids.
    rows : numpy.ndarray
        (unit,) int64, rows of the table that are asked for.
    spike_times : array-like
        (spike,) seconds, of all rows of the table.
    ends : numpy.ndarray
        (row of the table,) int64, where each train ends in `spike_times`.
    columns : mapping of str to numpy.ndarray
        (row of the table,) scalar columns.
    """

    place: str
    ids: np.ndarray
    rows: np.ndarray
    spike_times: Any
    ends: np.ndarray
    columns: dict[str, np.ndarray]

    def count(self, start_time: np.ndarray, window_s: tuple[float, float], **options: Any) -> np.ndarray:
        """Return the spike counts, (presentation, unit)."""
        return count_spikes(
            self.spike_times,
            self.ends,
            start_time,
            window_s=window_s,
            rows=self.rows,
            place=self.place,
            **options,
        )


def spike_table(units: Any, *, query: str | None = None) -> SpikeTable:
    """Return the spike times of a `Units` table, of all units or those of a query on its columns.

    Raises
    ------
    MigvisError
        If there is no table, no `spike_times`, no unit with a spike, or none that the query selects.
    """
    if units is None:
        raise MigvisError(
            "no Units table: expected sorted units at /units; add them, or give a file that has them"
        )
    place = f"Units table {units.name!r}"
    if "spike_times" not in units.colnames:
        held = ", ".join(units.colnames) or "none"
        raise MigvisError(f"{place} has no spike_times (its columns: {held}); add the units' spike times")
    ids = np.asarray(units.id[:], np.int64)
    index = units["spike_times"]
    spike_times = index.target.data if hasattr(index, "target") else index.data
    ends = np.asarray(index.data[:], np.int64) if hasattr(index, "target") else np.arange(1, len(ids) + 1)
    if (
        len(ends) != len(ids)
        or (np.diff(ends, prepend=0) < 0).any()
        or (len(ends) and ends[-1] > len(spike_times))
    ):
        raise MigvisError(f"{place}: spike_times_index does not fit spike_times; the file is damaged")
    if not len(ends) or ends[-1] == 0:
        raise MigvisError(f"{place} has {len(ids)} units and no spike; expected spike times in seconds")
    columns = scalar_columns(units)
    rows = np.arange(len(ids)) if query is None else _selected(columns, ids, query, place)
    return SpikeTable(place, ids[rows], rows, spike_times, ends, columns)


def _selected(columns: dict[str, np.ndarray], ids: np.ndarray, query: str, place: str) -> np.ndarray:
    """Return the rows for which a pandas query on the columns (and `id`) is true."""
    table = pd.DataFrame({"id": ids, **columns})
    try:
        rows = np.flatnonzero(np.isin(np.arange(len(table)), table.query(query, engine="python").index))
    except Exception as error:  # pandas raises whatever the user's expression does
        raise MigvisError(
            f"units query {query!r} does not fit {place} ({' '.join(str(error).split())}); its columns: "
            f"{', '.join(map(str, table.columns))}"
        ) from error
    if not len(rows):
        raise MigvisError(f"units query {query!r} selects none of the {len(ids)} units of {place}; loosen it")
    return rows
