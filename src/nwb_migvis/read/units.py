"""Units of a file: which of them are asked for, and where their spike times are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import scalar_columns
from nwb_migvis.read.counting import count_spikes
from nwb_migvis.read.presentations import Presentations
from nwb_migvis.read.unit_query import selected_units, unit_columns


@dataclass(frozen=True)
class SpikeTable:
    """The spike times of a table of units.

    Attributes
    ----------
    place : str
        Name of the table.
    ids : numpy.ndarray
        (unit,) int64, ids of the units asked for.
    rows : numpy.ndarray
        (unit,) int64, their rows in the table.
    spike_times : array-like
        (spike,) seconds, of all rows of the table.
    ends : numpy.ndarray
        (row of the table,) int64, where each train ends in `spike_times`.
    """

    place: str
    ids: np.ndarray
    rows: np.ndarray
    spike_times: Any
    ends: np.ndarray

    def count(self, start_time: np.ndarray, *, window_s: tuple[float, float], max_bytes: int) -> np.ndarray:
        """Return the spike counts, (presentation, unit)."""
        return count_spikes(
            self.spike_times,
            self.ends,
            start_time,
            window_s=window_s,
            rows=self.rows,
            max_bytes=max_bytes,
            place=self.place,
        )

    def taken(self, units: np.ndarray) -> SpikeTable:
        """Return the table of some of the units asked for, by position and in that order."""
        return replace(self, ids=self.ids[units], rows=self.rows[units])


def spike_table(units: Any, nwb: Any, *, query: str | None = None) -> SpikeTable:
    """Return the spike times of a `Units` table, of all units or those of a query.

    Parameters
    ----------
    units : pynwb.misc.Units or None
    nwb : pynwb.NWBFile
    query : str, optional
        pandas query on what the file says of units (see `unit_columns`).

    Raises
    ------
    MigvisError
        If there is no table, no `spike_times`, no unit with a spike, or none that the query selects.
    """
    if units is None:
        raise MigvisError(
            "no Units table: expected sorted units at /units; add them, or give a file with units"
        )
    place = f"Units table {units.name!r}"
    if "spike_times" not in units.colnames:
        held = ", ".join(units.colnames) or "none"
        raise MigvisError(f"{place} has no spike_times (its columns: {held}); add the units' spike times")
    ids = np.asarray(units.id[:], np.int64)
    index = units["spike_times"]
    is_ragged = hasattr(index, "target")
    spike_times = index.target.data if is_ragged else index.data
    ends = np.asarray(index.data[:], np.int64) if is_ragged else np.arange(1, len(ids) + 1)
    fits = len(ends) == len(ids) and (np.diff(ends, prepend=0) >= 0).all()
    if not fits or (len(ends) and ends[-1] > len(spike_times)):
        raise MigvisError(f"{place}: spike_times_index does not fit spike_times; the file is damaged")
    if not len(ends) or ends[-1] == 0:
        raise MigvisError(f"{place} has {len(ids)} units and no spike; expected spike times in seconds")
    rows = np.arange(len(ids))
    if query is not None:
        rows = selected_units(unit_columns(units, nwb), query, place=place)
    return SpikeTable(place, ids[rows], rows, spike_times, ends)


def same_units(unit_tables: Sequence[Any], nwb: Any, *, query: str | None = None) -> list[SpikeTable]:
    """Return the spike times of the units that all tables have, by `unit_name`, in the first table's order.

    Raises
    ------
    MigvisError
        If a table has no `unit_name`, or one twice, or no unit is in all of them.
    """
    tables, names = [], []
    for units in unit_tables:
        table = spike_table(units, nwb, query=query)
        column = scalar_columns(units).get("unit_name")
        if column is None or len(set(column)) < len(column):
            state = "has no unit_name" if column is None else "has one unit_name twice"
            raise MigvisError(f"{table.place} {state}; expected one for each unit, to join sessions by")
        tables.append(table)
        names.append(list(column[table.rows]))
    shared = [name for name in names[0] if all(name in other for other in names[1:])]
    if not shared:
        raise MigvisError(
            f"no unit_name is in all {len(tables)} tables of units; expected the same units in each"
        )
    return [
        table.taken(np.array([own.index(name) for name in shared]))
        for table, own in zip(tables, names, strict=True)
    ]


def count_by_table(
    tables: Sequence[SpikeTable],
    reading: Presentations,
    *,
    window_s: tuple[float, float],
    max_bytes: int,
) -> np.ndarray:
    """Return the spike counts, (presentation, unit), of presentations, each against its own table."""
    if reading.unit_table_index is None:
        return tables[0].count(reading.start_time, window_s=window_s, max_bytes=max_bytes)
    table_index = reading.unit_table_index
    parts = []
    for i, table in enumerate(tables):
        own = reading.start_time[table_index == i]
        parts.append(table.count(own, window_s=window_s, max_bytes=max_bytes))
    counts = np.empty((len(table_index), len(tables[0].ids)), np.result_type(*parts))
    for i, part in enumerate(parts):
        counts[table_index == i] = part
    return counts
