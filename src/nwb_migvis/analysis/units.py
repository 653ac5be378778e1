"""Units of sessions: what tells them apart, and the same ones in another session."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError


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
