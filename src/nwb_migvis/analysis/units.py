"""Units of sessions: what tells them apart, and the same ones in another session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.places import read_recording
from nwb_migvis.read.unit_query import POSITIONS


def unit_coords(session: xr.Dataset) -> dict[str, Any]:
    """Return the coordinates that tell a session's units apart, as `Results.units` has them."""
    names = [name for name in ("unit", "unit_row", "electrode_group") if name in session.coords]
    return {name: ("unit", session[name].values) for name in names}


def matching_units(session: xr.Dataset, fitted: xr.Dataset) -> np.ndarray:
    """Return where a session has the units of another one, (unit,) int in the other's order.

    Units are matched by id; where ids repeat, by id and electrode group, or else by id and row.

    Raises
    ------
    MigvisError
        If the session lacks one of the units, or nothing tells its units apart.
    """
    source = session.attrs.get("source", "the session")
    for names in (["unit"], ["unit", "electrode_group"], ["unit", "unit_row"]):
        if not all(name in each.coords for name in names for each in (session, fitted)):
            continue
        here, there = (
            pd.MultiIndex.from_arrays([each[name].values for name in names]) for each in (session, fitted)
        )
        if here.is_unique and there.is_unique:
            break
    else:
        raise MigvisError(
            f"{source}: ids of units repeat, and neither electrode groups nor rows tell them apart; expected "
            "units that can be matched with those that the latents were fitted to"
        )
    index = here.get_indexer(there)
    if (index < 0).any():
        lacking = [", ".join(map(str, key)) for key in there[index < 0]]
        raise MigvisError(
            f"{source}: found no unit {lacking[0]} and {len(lacking)} of {len(index)} units are absent; "
            "expected those that the latents were fitted to"
        )
    return index


def unit_values(session: xr.Dataset, column: str) -> np.ndarray:
    """Return what is said about each unit of a session under a name, (unit,) str; "" where nothing is.

    Parameters
    ----------
    session : xarray.Dataset
    column : str
        A coordinate along the units; or "location" or "electrode_group" of the file that it was read from.
    """
    if column in session.coords and session[column].dims == ("unit",):
        return session[column].values.astype(str)
    nothing = np.full(session.sizes["unit"], "", dtype=object)
    source = Path(str(session.attrs.get("source", "")))
    if column not in ("location", "electrode_group") or "unit_row" not in session or not source.is_file():
        return nothing
    said, rows = getattr(read_recording(source), column), session["unit_row"].values
    return said[rows].astype(str) if len(said) > rows.max(initial=-1) else nothing


@dataclass(frozen=True, eq=False)
class Positions:
    """Where the units of a session are.

    Attributes
    ----------
    unit : numpy.ndarray of int, shape (n_placed,)
        Units whose position is known.
    axis : tuple of str
        Names of the coordinates.
    value : numpy.ndarray, shape (n_placed, n_axes)
        In the units of the file.
    site : numpy.ndarray of int, shape (n_placed,)
        The same for units at one position of one electrode group.
    """

    unit: np.ndarray
    axis: tuple[str, ...]
    value: np.ndarray
    site: np.ndarray

    @property
    def n_sites(self) -> int:
        """Number of different positions."""
        return int(self.site.max(initial=-1)) + 1


def unit_positions(session: xr.Dataset) -> Positions:
    """Return where the units of a session are: its own coordinates, else what its file says.

    Coordinates that are the same for all units are omitted, and units that lack one of the others.

    Parameters
    ----------
    session : xarray.Dataset
        With coordinates along `unit` of the names in `POSITIONS`, or read from a file.
    """
    said = {
        name: np.asarray(session[name].values, np.float64)
        for name in POSITIONS
        if name in session.coords and session[name].dims == ("unit",)
    }
    source = Path(str(session.attrs.get("source", "")))
    if not said and "unit_row" in session and source.is_file():
        rows = session["unit_row"].values
        of_file = read_recording(source).position
        said = {name: own[rows] for name, own in of_file.items() if len(own) > rows.max(initial=-1)}
    axes = {name: own for name, own in said.items() if len(np.unique(own[np.isfinite(own)])) > 1}
    value = np.stack(list(axes.values()), axis=1) if axes else np.empty((session.sizes["unit"], 0))
    placed = np.flatnonzero(np.isfinite(value).all(axis=1)) if axes else np.empty(0, np.int64)
    groups = np.unique(unit_values(session, "electrode_group"), return_inverse=True)[1].ravel()
    keys = np.concatenate([groups[placed, None], value[placed]], axis=1)
    site = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return Positions(placed, tuple(axes), value[placed], site)
