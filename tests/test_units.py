"""Units of one session found again in another."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nwb_migvis.analysis.units import matching_units, unit_coords
from nwb_migvis.errors import MigvisError


def units(ids, **coords):
    return xr.Dataset(coords={"unit": ids, **{name: ("unit", values) for name, values in coords.items()}})


def test_ids_alone_where_they_are_unique():
    assert matching_units(units([4, 2, 9]), units([9, 4])).tolist() == [2, 0]


def test_repeated_ids_are_matched_by_group_else_by_row():
    one = units([0, 1, 0, 1], electrode_group=["a", "a", "b", "b"], unit_row=[0, 1, 2, 3])
    order = [3, 0, 2, 1]
    assert matching_units(one, one.isel(unit=order)).tolist() == order
    without = one.drop_vars("electrode_group")
    assert matching_units(without, without.isel(unit=order)).tolist() == order
    assert list(unit_coords(one)) == ["unit", "unit_row", "electrode_group"]
    with pytest.raises(MigvisError, match="ids of units repeat"):
        matching_units(without.drop_vars("unit_row"), without)
    with pytest.raises(MigvisError, match="found no unit 1, b and 1 of 4 units are absent"):
        matching_units(one.isel(unit=slice(3)), one)


def test_rows_alone_tell_no_units_apart():
    rows = np.arange(3)
    moved = units([5, 6, 7], unit_row=rows[::-1])
    assert matching_units(moved, units([5, 6, 7], unit_row=rows)).tolist() == [0, 1, 2]
