"""Further analyses as tables in long form, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import xarray as xr
from hdmf.common import VectorData

from ndx_migvis import AnalysisTable, FurtherAnalyses
from nwb_migvis.plain import Json, free_name
from nwb_migvis.store.gate import check_analyses, read_json, read_text


def encode_analyses(analyses: Mapping[str, xr.Dataset]) -> FurtherAnalyses:
    """Return the tables of canonical analyses: one per analysis and set of axes."""
    tables: list[AnalysisTable] = []
    for name, dataset in analyses.items():
        axes = dict.fromkeys(
            variable.dims for n, variable in dataset.variables.items() if n not in dataset.dims
        )
        for i, dims in enumerate(axes or [tuple(dataset.dims)]):
            taken = {table.name for table in tables}
            own = name if i == 0 else "_by_".join([name, "_".join(map(str, dims)) or "nothing"])
            tables.append(_table(free_name(_plain_name(own), taken), name, dataset, tuple(map(str, dims))))
    return FurtherAnalyses(name="analyses", analysis_tables=tables)


def decode_analyses(group: h5py.Group) -> dict[str, xr.Dataset]:
    """Return the analyses that a group of tables holds.

    Raises
    ------
    ValueError
        For a table that is not as `encode_analyses` makes it.
    """
    check_analyses(group)
    arrays: dict[str, dict[str, Any]] = {}
    coords: dict[str, set[str]] = {}
    attributes: dict[str, Json] = {}
    for table in group.values():
        name, structure = table.attrs["analysis"], read_json(table, "structure")
        own = _arrays(table, structure)
        arrays.setdefault(name, {}).update(own)
        names = structure["names"]
        axes = [names[column] for column in [*structure["dims"], *structure["coordinates"]]]
        coords.setdefault(name, set()).update(axes)
        attributes.setdefault(name, {}).update(structure["attributes"].get("", {}))
    return {
        name: xr.Dataset(
            {n: array for n, array in own.items() if n not in coords[name]},
            coords={n: own[n] for n in own if n in coords[name]},
            attrs=attributes[name],
        )
        for name, own in arrays.items()
    }


def _plain_name(name: str) -> str:
    return re.sub(r"[/:]|^\.+$", "_", name) or "_"


def _table(name: str, analysis: str, dataset: xr.Dataset, dims: tuple[str, ...]) -> AnalysisTable:
    shape = [dataset.sizes[d] for d in dims]
    axes = np.meshgrid(*(dataset[d].values for d in dims), indexing="ij") if dims else []
    values = dict(zip(dims, (axis.ravel() for axis in axes), strict=True))
    own = [str(n) for n, v in dataset.variables.items() if v.dims == dims and n not in dataset.dims]
    values |= {n: dataset[n].values.ravel() for n in own}
    taken: set[str] = {*dir(AnalysisTable), "id"}
    columns: dict[str, str] = {}
    for variable in values:
        columns[variable] = free_name(_plain_name(variable), taken)
        taken.add(columns[variable])
    structure = {
        "dims": [columns[d] for d in dims],
        "shape": shape,
        "coordinates": [columns[n] for n in own if n in dataset.coords],
        "names": {column: variable for variable, column in columns.items()},
        "attributes": {columns[n]: dataset[n].attrs for n in values} | {"": dataset.attrs},
    }
    return AnalysisTable(
        name=name,
        description=str(dataset.attrs.get("description") or f"What the analysis {analysis!r} computed."),
        columns=[
            VectorData(
                name=columns[n],
                description=_description(n, dataset, is_axis=n in dims),
                data=array.tolist() if array.dtype.kind == "U" else array,
            )
            for n, array in values.items()
        ],
        colnames=list(columns.values()),
        analysis=analysis,
        structure=json.dumps(structure, sort_keys=True, ensure_ascii=False, allow_nan=False),
    )


def _description(name: str, dataset: xr.Dataset, *, is_axis: bool) -> str:
    about = dataset[name].attrs
    text = about.get("description") or about.get("long_name")
    units = about.get("units") or about.get("unit")
    what = f"Values of the axis {name!r}." if is_axis else f"The analysis's {name!r}."
    return f"{text or what}{f' Unit: {units}.' if units else ''}"


def _arrays(table: h5py.Group, structure: Json) -> dict[str, Any]:
    """Return dims, values and attributes of the variables in a table."""
    shape = tuple(structure["shape"])
    dims = [structure["names"][column] for column in structure["dims"]]
    arrays: dict[str, Any] = {}
    for column, name in structure["names"].items():
        dataset = table[column]
        is_text = h5py.check_string_dtype(dataset.dtype) is not None
        values = (read_text(dataset) if is_text else dataset[()]).reshape(shape)
        attributes = structure["attributes"].get(column, {})
        if column not in structure["dims"]:
            arrays[name] = (tuple(dims), values, attributes)
            continue
        i = structure["dims"].index(column)
        axis = values[tuple(slice(None) if j == i else 0 for j in range(len(shape)))]
        grid = np.broadcast_to(axis.reshape([-1 if j == i else 1 for j in range(len(shape))]), shape)
        if not np.array_equal(grid, values, equal_nan=values.dtype.kind == "f"):
            raise ValueError(f"{dataset.name} does not run over all combinations of the axes, in order")
        arrays[name] = ((name,), axis, attributes)
    return arrays
