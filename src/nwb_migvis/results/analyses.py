"""What further analyses give, in the form that a file can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json, plain

MOST_ROWS = 10_000_000
"""Values of a variable, which are rows of a table."""


def canonical_analysis(name: str, dataset: Any) -> xr.Dataset:
    """Return what an analysis gave in the form that a file holds.

    Integers become int64, text NumPy text, a dim without values is numbered from 0, and attributes are plain
    JSON values.

    Raises
    ------
    MigvisError
        If it is not a dataset, or holds what a table cannot: values that are neither numbers nor text, too
        many, or a variable of several dims with the name of one of them.
    """
    where = f"the analysis {name!r}"
    if not name or not name.isprintable() or name != name.strip() or any(c in name for c in "/:"):
        raise MigvisError(f"{where}: found a name that no table can have; register it under another one")
    if not isinstance(dataset, xr.Dataset) or not dataset.variables:
        found = "no variables" if isinstance(dataset, xr.Dataset) else f"a {type(dataset).__name__}"
        raise MigvisError(f"{where} gave {found}; expected an xarray.Dataset; correct its compute")
    for own, variable in dataset.variables.items():
        if own in variable.dims and variable.ndim > 1:
            over = ", ".join(map(str, variable.dims))
            raise MigvisError(
                f"{where}: {own} runs over {over}, of which one has its name; expected a name of its own; "
                "rename the variable or the dim"
            )
    numbered = {d: np.arange(n) for d, n in dataset.sizes.items() if d not in dataset.coords}
    dataset = dataset.assign_coords(numbered)
    arrays = {}
    for variable_name, variable in dataset.variables.items():
        n_rows = math.prod(variable.shape)
        if not 0 < n_rows <= MOST_ROWS:
            raise MigvisError(
                f"{where}: {variable_name} has {n_rows} values; expected 1 to {MOST_ROWS}; keep fewer"
            )
        arrays[str(variable_name)] = (
            tuple(map(str, variable.dims)),
            _cast(variable.values, f"{where}: {variable_name}"),
            _attributes(variable.attrs, where),
        )
    coords = [str(coord) for coord in dataset.coords]
    return xr.Dataset(
        {n: array for n, array in arrays.items() if n not in coords},
        coords={n: arrays[n] for n in coords},
        attrs=_attributes(dataset.attrs, where),
    )


def _cast(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind in "UT" or (
        values.dtype.kind == "O" and all(isinstance(v, str) for v in values.ravel())
    ):
        return values.astype(object).astype(str)  # as wide as the longest text, as it is read back
    if values.dtype.kind not in "biuf":
        raise MigvisError(
            f"{where} holds values of the type {values.dtype}; expected numbers or text; convert them"
        )
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return values if values.dtype.kind == "b" or values.dtype.itemsize in (4, 8) else values.astype("f8")


def _attributes(attributes: Mapping[Any, Any], where: str) -> Json:
    try:
        return plain(dict(attributes), finite=True)
    except (TypeError, ValueError) as error:
        raise MigvisError(f"{where}: found an attribute that JSON cannot hold ({error}); omit it") from None
