"""Tables of an NWB file with one row per interval or event, as plain columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.sizes import whole

START_COLUMNS = ("stim_on_time", "start_time", "timestamp")
"""Columns that say when a presentation began, in the order in which they are looked for."""

STOP_COLUMNS = ("stim_off_time", "stop_time")
"""Columns that say when a presentation ended, in the order in which they are looked for."""

ROUNDING_S = 1e-4 * (1 + 1e-6)
"""Times this close are the same moment: 0.1 ms, and a little for the rounding of differences."""


@dataclass(frozen=True)
class Table:
    """The scalar columns of a table of intervals or events.

    Attributes
    ----------
    name : str
    columns : mapping of str to numpy.ndarray
        (row,) numbers, booleans, or str objects; ragged, reference and array columns are omitted, and so
        are `start_time` and `timestamp`.
    start_time, stop_time : numpy.ndarray
        (row,) float64, seconds; when the presentation began and ended. NaN where unknown.
    precision_s : float
        How far the type that the times are stored in rounds them, seconds.
    problem : str
        Why its times cannot be those of presentations; "" where they can.
    path : str
        Where it is in the file; "" where it is not stored in HDF5.
    """

    name: str
    columns: Mapping[str, np.ndarray]
    start_time: np.ndarray
    stop_time: np.ndarray
    precision_s: float = 0.0
    problem: str = ""
    path: str = ""

    @classmethod
    def from_dynamic_table(cls, table: Any, *, name: str = "") -> Table:
        """Read a table; `stim_on_time` and `stim_off_time` are the times of a presentation where given.

        Events (`timestamp`) end after their `duration`, where they have one.
        """
        columns = scalar_columns(table)
        name = name or table.name
        n_rows = len(table.id)
        times, problem, precision_s = {}, "", 0.0
        for column in {*START_COLUMNS, *STOP_COLUMNS, "duration"} & columns.keys():
            values = columns[column]
            if values.dtype == object:
                problem = (
                    f"column {column!r} of table {name!r} holds text; expected seconds: correct the file"
                )
                continue
            times[column] = values.astype(np.float64)
            precision_s = max(precision_s, precision_of(values))
        start, stop = (
            next((column for column in columns if column in times), None)
            for columns in (START_COLUMNS, STOP_COLUMNS)
        )
        unknown = np.full(n_rows, np.nan)
        start_time = unknown if start is None else times[start]
        stop_time = unknown if stop is None else times[stop]
        if start == "timestamp" and stop is None and "duration" in times:
            stop_time = start_time + times["duration"]
        if start == "stim_on_time" and {"start_time", "stop_time"} <= times.keys():
            tolerance = ROUNDING_S + 2 * precision_s
            problem = problem or _outside_rows(
                name, start_time, (times["start_time"], times["stop_time"]), tolerance
            )
        for column in ("start_time", "timestamp"):
            columns.pop(column, None)
        path = str(getattr(table.id.data, "name", None) or "").rpartition("/")[0]
        return cls(name, columns, start_time, stop_time, precision_s, problem, path)


def _outside_rows(
    name: str, onset: np.ndarray, rows: tuple[np.ndarray, np.ndarray], tolerance_s: float
) -> str:
    """Return how onsets contradict the rows that they stand in, or ""."""
    first, last = rows
    is_outside = (onset < first - tolerance_s) | (onset > last + tolerance_s)
    if not is_outside.any():
        return ""
    k = int(np.argmax(is_outside))
    return (
        f"table {name!r}: stim_on_time lies outside its own row in {int(is_outside.sum())} of {len(onset)} "
        f"rows, first {onset[k]:g} s in a row from {first[k]:g} to {last[k]:g} s (onsets {span(onset)}, rows "
        f"{span(first, last)}); expected seconds on the session's clock: correct the column, which may count "
        "from the start of each trial or in other units"
    )


def span(first: np.ndarray, last: np.ndarray | None = None) -> str:
    """Return the first and last of some times, as text."""
    low, high = np.nanmin(first), np.nanmax(first if last is None else last)
    return f"{low:.10g} to {high:.10g} s"


def precision_of(times: np.ndarray) -> float:
    """Return the distance of neighbouring values of the type of times at the largest of them, seconds."""
    if times.dtype.kind != "f" or times.dtype.itemsize >= 8 or not np.isfinite(times).any():
        return 0.0
    largest = np.max(np.abs(times[np.isfinite(times)]))
    return float(np.spacing(largest))


def scalar_columns(table: Any) -> dict[str, np.ndarray]:
    """Return the columns of a `DynamicTable` that hold one number, boolean or text per row.

    Returns
    -------
    dict of str to numpy.ndarray
        (row,) each; text as str objects.

    Raises
    ------
    MigvisError
        If an `EnumData` column points beyond its elements, or a column is larger than the file.
    """
    from hdmf.common import DynamicTableRegion, EnumData, VectorIndex

    columns = {}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        values = whole(column.data)
        if isinstance(column, EnumData):
            elements = whole(column.elements.data).astype(object)
            if values.dtype.kind not in "iu" or (values >= len(elements)).any():
                raise MigvisError(
                    f"column {name!r} of table {table.name!r} points beyond its {len(elements)} elements; "
                    "correct the file"
                )
            values = elements[values]
        plain = plain_column(values)
        if plain is not None and len(plain) == len(table.id):
            columns[name] = plain
    return columns


def plain_column(values: np.ndarray) -> np.ndarray | None:
    """Return one-dimensional numbers, booleans or text (as str objects), or None for anything else."""
    if values.ndim != 1 or values.dtype.kind not in "biufOSU":
        return None
    if values.dtype.kind in "biuf":
        return values
    kind = pd.api.types.infer_dtype(values, skipna=False)
    if kind == "string":
        return values.astype(object)
    if kind == "bytes" or not len(values):
        return np.array([value.decode(errors="replace") for value in values], object)
    return None
