"""Units of a file: which of them are asked for, and where their spike times are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.blocks import Counting, LazyCounts, Zones
from nwb_migvis.read.counting import Trains, count_trains, unit_by_unit
from nwb_migvis.read.presentations import Presentations
from nwb_migvis.read.sizes import check_pieces, whole
from nwb_migvis.read.table import scalar_columns
from nwb_migvis.read.times import SpikeSpan, check_inside, check_spikes, is_within, limits_of
from nwb_migvis.read.unit_query import electrode_groups, selected_units, unit_columns

Home = Callable[[Any], tuple[Any, Any]]


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
    intervals : sequence of numpy.ndarray, optional
        (interval, 2) each, seconds: when each row of the table was observed; none for always.
    electrode_group : numpy.ndarray, optional
        (unit,) str, where the table says it.
    """

    place: str
    ids: np.ndarray
    rows: np.ndarray
    spike_times: Any
    ends: np.ndarray
    intervals: Sequence[np.ndarray] | None = None
    electrode_group: np.ndarray | None = None

    def count(self, reading: Presentations, *, window_s: tuple[float, float], max_bytes: int) -> np.ndarray:
        """Return the spike counts, (presentation, unit), of presentations on the units' clock.

        Raises
        ------
        MigvisError
            If the spike times cannot be seconds on that clock.
        """
        spike_span = SpikeSpan()
        counts = count_trains(
            self.trains, reading.start_time, window_s=window_s, max_bytes=max_bytes, spike_span=spike_span
        )
        self._check(reading, spike_span, is_any=bool(counts.any()), max_bytes=max_bytes)
        return counts

    def scan(
        self, reading: Presentations, *, home: Home, window_s: tuple[float, float], max_bytes: int
    ) -> Counting:
        """Look at all spikes once, and return how they are counted some presentations at a time.

        Parameters
        ----------
        reading : Presentations
        home : callable
            Takes spike times as pynwb gives them; returns what they are read from again, and their name
            there.
        window_s : (float, float)
        max_bytes : int

        Raises
        ------
        MigvisError
            As `count`.
        """
        spike_span, zones, dtype, is_any = SpikeSpan(), Zones(), np.dtype(np.uint16), False
        for column in unit_by_unit(
            self.trains,
            reading.start_time,
            window_s=window_s,
            max_bytes=max_bytes,
            watching=lambda row, pieces: zones.watching(row, spike_span.watching(pieces)),
        ):
            dtype, is_any = np.result_type(dtype, column), is_any or bool(column.any())
        self._check(reading, spike_span, is_any=is_any, max_bytes=max_bytes)
        file, name = home(self.spike_times)
        trains = replace(self.trains, spike_times=name)
        return Counting(file, trains, zones, reading.start_time, window_s, max_bytes, dtype)

    @property
    def trains(self) -> Trains:
        """The spike times of the units asked for."""
        return Trains(self.spike_times, self.ends, self.rows, self.place)

    def _check(self, reading: Presentations, spike_span: SpikeSpan, *, is_any: bool, max_bytes: int) -> None:
        """Refuse spike times that cannot be seconds on the clock of the presentations."""
        n_spikes = np.diff(self.ends, prepend=0)
        are_near = check_spikes(reading, spike_span, n_spikes=n_spikes, place=self.place)
        is_any = is_any or len(self.rows) < len(self.ends)  # other units may fire
        if len(reading.start_time) and not (are_near and is_any):
            limits = limits_of(self.trains.pieces(max_bytes))
            check_inside(
                reading, limits, n_spikes=int(n_spikes.sum()), n_counted=int(is_any), place=self.place
            )

    def observed(self, start_time: np.ndarray, *, window_s: tuple[float, float]) -> np.ndarray | None:
        """Return whether each unit was observed throughout each window, (presentation, unit) bool.

        None where all always were. A unit for which the file has no interval counts as observed.
        """
        if self.intervals is None:
            return None
        own = [self.intervals[row] for row in self.rows]
        within = {
            intervals.tobytes(): is_within(start_time, window_s, intervals)
            for intervals in own
            if len(intervals)
        }
        if all(column.all() for column in within.values()):
            return None
        always = np.ones(len(start_time), bool)
        return np.stack([within.get(intervals.tobytes(), always) for intervals in own], axis=1)

    def taken(self, units: np.ndarray) -> SpikeTable:
        """Return the table of some of the units asked for, by position and in that order."""
        groups = None if self.electrode_group is None else self.electrode_group[units]
        return replace(self, ids=self.ids[units], rows=self.rows[units], electrode_group=groups)


def spike_table(units: Any, nwb: Any, *, query: str | None = None) -> SpikeTable:
    """Return the spike times of a `Units` table, of all units or those of a query.

    Parameters
    ----------
    units : pynwb.misc.Units or None
    nwb : pynwb.NWBFile
    query : str, optional
        pandas query on what the file says about units (see `unit_columns`).

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
        columns = ", ".join(units.colnames) or "none"
        raise MigvisError(f"{place} has no spike_times (its columns: {columns}); add the units' spike times")
    ids = whole(units.id.data).astype(np.int64)
    index = units["spike_times"]
    is_ragged = hasattr(index, "target")
    spike_times = index.target.data if is_ragged else index.data
    check_pieces(spike_times)
    ends = whole(index.data).astype(np.int64) if is_ragged else np.arange(1, len(ids) + 1)
    fits = len(ends) == len(ids) and (np.diff(ends, prepend=0) >= 0).all()
    if not fits or (len(ends) and ends[-1] > len(spike_times)):
        raise MigvisError(f"{place}: spike_times_index does not fit spike_times; the file is damaged")
    if not len(ends) or ends[-1] == 0:
        raise MigvisError(f"{place} has {len(ids)} units and no spike; expected spike times in seconds")
    rows = np.arange(len(ids))
    if query is not None:
        rows = selected_units(unit_columns(units, nwb), query, place=place)
    groups = electrode_groups(units)
    return SpikeTable(
        place,
        ids[rows],
        rows,
        spike_times,
        ends,
        intervals=observation_intervals(units, place=place),
        electrode_group=None if groups is None else groups[rows],
    )


def observation_intervals(units: Any, *, place: str) -> list[np.ndarray] | None:
    """Return when each unit of a table was observed, (interval, 2) seconds each; None where it does not say.

    Raises
    ------
    MigvisError
        If `obs_intervals` does not hold starts before stops.
    """
    if "obs_intervals" not in units.colnames:
        return None
    index = units["obs_intervals"]
    is_ragged = hasattr(index, "target")
    times = whole(index.target.data if is_ragged else index.data)
    n_units = len(units.id)
    ends = whole(index.data).astype(np.int64) if is_ragged else np.arange(1, n_units + 1)
    fits = len(ends) == n_units and (np.diff(ends, prepend=0) >= 0).all()
    if not len(times):
        return None
    if times.ndim != 2 or times.shape[1] != 2 or times.dtype.kind not in "iuf" or not fits:
        raise MigvisError(
            f"{place}: obs_intervals has shape {times.shape} and type {times.dtype}; expected "
            f"(interval, 2) in "
            "seconds, and an index with one entry per unit: correct the file"
        )
    is_bad = ~(times[:, 0] <= times[:, 1])
    if is_bad.any() or ends[-1] > len(times):
        first, last = times[int(np.argmax(is_bad))]
        raise MigvisError(
            f"{place}: obs_intervals holds an interval from {first:g} to {last:g} s; expected a start "
            f"before a "
            "stop, and as many intervals as its index says: correct the file"
        )
    return np.split(times.astype(np.float64), ends[:-1])


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
    table_index = reading.unit_table_index
    if table_index is None:
        return tables[0].count(reading, window_s=window_s, max_bytes=max_bytes)
    parts = []
    for i, table in enumerate(tables):
        own = reading.taken(table_index == i)
        parts.append(table.count(own, window_s=window_s, max_bytes=max_bytes))
    counts = np.empty((len(table_index), len(tables[0].ids)), np.result_type(*parts))
    for i, part in enumerate(parts):
        counts[table_index == i] = part
    return counts


def counts_in_blocks(
    tables: Sequence[SpikeTable],
    reading: Presentations,
    *,
    home: Home,
    window_s: tuple[float, float],
    max_bytes: int,
) -> LazyCounts:
    """Return what `count_by_table` does as an array that counts when it is indexed; all is checked here."""
    table_index = reading.unit_table_index
    if table_index is None:
        table_index, readings = np.zeros(len(reading.start_time), np.int64), [reading]
    else:
        readings = [reading.taken(table_index == i) for i in range(len(tables))]
    parts = [
        table.scan(own, home=home, window_s=window_s, max_bytes=max_bytes)
        for table, own in zip(tables, readings, strict=True)
    ]
    return LazyCounts(parts, table_index, len(tables[0].ids))


def observed_by_table(
    tables: Sequence[SpikeTable], reading: Presentations, *, window_s: tuple[float, float]
) -> np.ndarray | None:
    """Return whether each unit was observed in each window, (presentation, unit) bool, or None for always."""
    table_index = reading.unit_table_index
    if table_index is None:
        return tables[0].observed(reading.start_time, window_s=window_s)
    observed = np.ones((len(table_index), len(tables[0].ids)), bool)
    for i, table in enumerate(tables):
        own = table_index == i
        part = table.observed(reading.start_time[own], window_s=window_s)
        if part is not None:
            observed[own] = part
    return None if observed.all() else observed
