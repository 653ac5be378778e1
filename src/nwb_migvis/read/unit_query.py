"""Choose units by what the file says about them: their columns, electrodes and quality metrics."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.opening import one_line
from nwb_migvis.read.table import scalar_columns

_ALLOWED = (
    *(ast.Expression, ast.Name, ast.Load, ast.Constant, ast.List, ast.Tuple),
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Invert),
    *(ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *(ast.BinOp, ast.BitAnd, ast.BitOr, ast.Add, ast.Sub, ast.Mult, ast.Div),
)
"""What a query may hold: no calls, attributes or outside variables, which pandas would evaluate."""


def unit_columns(units: Any, nwb: Any) -> dict[str, np.ndarray]:
    """Return what a file says about each unit, one value each.

    The scalar columns of the Units table; `electrode_group` by name; the scalar columns of the electrodes
    table where a unit's electrodes agree (`location`, `group_name`, ...); the columns of `UnitsMetrics`
    tables. A name that is taken is made longer by the table's name.

    Parameters
    ----------
    units : pynwb.misc.Units
    nwb : pynwb.NWBFile
        Searched for `UnitsMetrics` tables.

    Returns
    -------
    dict of str to numpy.ndarray
        (unit,) each; NaN or "" where a table says nothing about a unit.
    """
    columns: dict[str, np.ndarray] = {"id": np.asarray(units.id[:], np.int64), **scalar_columns(units)}
    groups = electrode_groups(units)
    if groups is not None:
        columns["electrode_group"] = groups
    more = [("electrodes", _electrode_columns(units)), *_metric_columns(units, nwb)]
    for table, own_columns in more:
        for name, values in own_columns.items():
            columns[f"{table}_{name}" if name in columns else name] = values
    return columns


def electrode_groups(units: Any) -> np.ndarray | None:
    """Return the name of each unit's electrode group, (unit,) str objects; "" where it is gone.

    None where the table says nothing of groups.
    """
    if "electrode_group" not in units.colnames:
        return None
    data = units["electrode_group"].data
    return np.array([_name_at(data, row) for row in range(len(data))], object)


def _name_at(data: Any, row: int) -> str:
    """Return the name of the group in a row; "" where the reference leads to what is no longer there."""
    try:
        return str(getattr(data[row], "name", "") or "")
    except (KeyError, ValueError):
        return ""


def _electrode_columns(units: Any) -> dict[str, np.ndarray]:
    """Return the electrodes' columns per unit, left empty where a unit's electrodes differ."""
    if "electrodes" not in units.colnames:
        return {}
    (table, rows), columns = _own_electrodes(units), {}
    for name, values in scalar_columns(table).items():
        empty = "" if values.dtype == object else np.nan
        per_unit = [np.unique(values[own]) for own in rows]
        dtype = object if values.dtype == object else np.float64
        columns[name] = np.array([own[0] if len(own) == 1 else empty for own in per_unit], dtype)
    return columns


def _own_electrodes(units: Any) -> tuple[Any, list[np.ndarray]]:
    """Return the table of the units' electrodes, and the rows of each unit's there."""
    index = units["electrodes"]
    is_ragged = hasattr(index, "target")
    region = index.target if is_ragged else index
    electrodes = np.asarray(region.data[:], np.int64)
    ends = np.asarray(index.data[:], np.int64) if is_ragged else np.arange(1, len(electrodes) + 1)
    begins = np.concatenate([[0], ends[:-1]])
    return region.table, [electrodes[a:b] for a, b in zip(begins, ends, strict=True)]


def unit_positions(units: Any, nwb: Any) -> dict[str, np.ndarray]:
    """Return where a file says that each unit is, (unit,) float64 by the name of the coordinate.

    A column of the Units table, else of the electrodes table: the mean over a unit's electrodes, or that of
    its `peak_channel_id` where units have no electrodes. NaN where a unit has none.

    Parameters
    ----------
    units : pynwb.misc.Units
    nwb : pynwb.NWBFile
    """
    table, rows = _electrodes_of(units, nwb)
    found = {}
    for name, values in {} if table is None else _numbers(scalar_columns(table)).items():
        found[name] = np.array([values[own].mean() if len(own) else np.nan for own in rows])
    return found | _numbers(scalar_columns(units))


POSITIONS = (
    *("x", "y", "z", "rel_x", "rel_y", "rel_z", "depth"),
    *("probe_vertical_position", "probe_horizontal_position"),
)
"""Columns that say where an electrode or a unit is."""


def _numbers(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns of positions."""
    own = {name: columns[name] for name in POSITIONS if name in columns}
    return {name: values.astype(np.float64) for name, values in own.items() if values.dtype.kind in "fiu"}


def _electrodes_of(units: Any, nwb: Any) -> tuple[Any, list[np.ndarray]]:
    """Return the table of electrodes, None where there is none, and the rows of each unit's there."""
    if "electrodes" in units.colnames:
        return _own_electrodes(units)
    peak = scalar_columns(units).get("peak_channel_id")
    if nwb.electrodes is None or peak is None or peak.dtype.kind not in "fiu":
        return None, []
    ids = np.asarray(nwb.electrodes.id[:], np.int64)
    return nwb.electrodes, [np.flatnonzero(ids == channel) for channel in peak]


def _metric_columns(units: Any, nwb: Any) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the columns of each `UnitsMetrics` table (ndx-spikesorting) in the order of these units."""
    from hdmf.common import DynamicTable

    for item in nwb.objects.values():
        if not isinstance(item, DynamicTable) or type(item).__name__ != "UnitsMetrics":
            continue
        if item["unit"].table is not units:
            continue
        rows = np.asarray(item["unit"].data[:], np.int64)
        columns = {}
        for name, values in scalar_columns(item).items():
            is_text = values.dtype == object
            per_unit = np.full(len(units.id), "" if is_text else np.nan, object if is_text else np.float64)
            per_unit[rows] = values
            columns[name] = per_unit
        yield item.name, columns


def selected_units(columns: dict[str, np.ndarray], query: str, *, place: str) -> np.ndarray:
    """Return the rows, (selected,) int64, for which a pandas query on unit columns is true.

    Raises
    ------
    MigvisError
        If the query does not fit the columns or selects nothing.
    """
    table = pd.DataFrame(columns)
    try:
        _refuse_code(query)
        rows = table.query(query, engine="python").index.to_numpy(np.int64)
    except Exception as error:  # pandas raises whatever the user's expression does
        raise MigvisError(
            f"units query {query!r} does not fit {place} ({one_line(error)}); expected an "
            f"expression of its columns: {', '.join(columns)}"
        ) from error
    if not len(rows):
        raise MigvisError(
            f"units query {query!r} selects none of the {len(table)} units of {place}; loosen it"
        )
    return rows


def _refuse_code(query: str) -> None:
    """Raise where a query is more than comparisons of columns and constants."""
    tree = ast.parse(re.sub(r"`[^`]*`", "quoted", query).strip(), mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ValueError(f"{type(node).__name__} is not allowed")
