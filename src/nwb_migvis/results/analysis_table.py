"""Further analyses as text: a table of each variable that its analysis names first."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import printable, shown
from nwb_migvis.results.table import aligned, number, shorten, stars

_MOST_ROWS = 40
_MOST_COLUMNS = 12
_MOST_HEADLINES = 6
_MOST_SLICES = 6
"""Tables of a variable with more than two axes."""


def headlines(dataset: xr.Dataset) -> list[str]:
    """Return the variables that an analysis names first, those that it has and that can be shown.

    A file can say anything in the attribute `headline`.
    """
    named = dataset.attrs.get("headline")
    named = named if isinstance(named, list) else []
    names = [name for name in named if isinstance(name, str) and name in dataset.data_vars]
    return [name for name in dict.fromkeys(names) if 0 < dataset[name].size <= 100_000][:_MOST_HEADLINES]


def title_of(name: str, dataset: xr.Dataset) -> str:
    """Return what an analysis calls itself, else its name, on one line."""
    title = dataset.attrs.get("title")
    return shorten(printable(title if isinstance(title, str) and title else name), 80)


def slices(dataset: xr.Dataset, name: str) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield a variable with what belongs to it, two axes at most at a time, and words for the others."""
    dims = dataset[name].dims
    own = [n for n in (name, *(f"{name}_{end}" for end in ("low", "high", "null", "p", "q"))) if n in dataset]
    data = dataset[[n for n in own if dataset[n].dims == dims]]
    if len(dims) <= 2:
        yield "", data
        return
    outer = dims[:-2]
    for place in list(np.ndindex(*(data.sizes[dim] for dim in outer)))[:_MOST_SLICES]:
        at = dict(zip(outer, place, strict=True))
        yield ", ".join(f"{dim} {data[dim].values[i]}" for dim, i in at.items()), data.isel(at)


def analysis_lines(name: str, dataset: xr.Dataset) -> list[str]:
    """Return a further analysis as text: stars mark q (or p) below 0.05, 0.01 and 0.001."""
    lines = [f"{title_of(name, dataset)} ({name})"]
    for variable in headlines(dataset):
        about = dataset[variable].attrs.get("description")
        lines.append(f"{variable}: {about if isinstance(about, str) else ''}".rstrip(": "))
        for words, data in slices(dataset, variable):
            lines += [words] if words else []
            lines += aligned(_table(data, variable)).split("\n")
        n_more = math.prod(dataset[variable].shape[:-2]) - _MOST_SLICES
        lines += [f"and {n_more} more: {variable} in results.analyses[{name!r}]"] if n_more > 0 else []
    if len(lines) == 1:
        lines.append(f"variables: {', '.join(map(str, dataset.data_vars))}")
    note = dataset.attrs.get("note")
    if isinstance(note, str) and note:
        lines.append(f"note: {note}")
    return [*(shorten(shown(line), 400) for line in lines), ""]


def _table(data: xr.Dataset, name: str) -> pd.DataFrame:
    """Return the cells of a variable of up to two dims as text."""
    values = data[name]
    q = next((data[f"{name}_{end}"].values for end in ("q", "p") if f"{name}_{end}" in data), None)
    cells = _cells(values.values, q)
    if values.ndim == 0:
        return pd.DataFrame([[cells.item()]], index=[name], columns=[""])
    index = values[values.dims[0]].values.astype(str)
    if values.ndim == 1:
        ends = [f"{name}_{end}" in data for end in ("low", "high")]
        table = pd.DataFrame({name: cells}, index=index)
        if all(ends) and values.dtype.kind == "f":
            low, high = (data[f"{name}_{end}"].values for end in ("low", "high"))
            table["95 %"] = [f"{number(a)} to {number(b)}" for a, b in zip(low, high, strict=True)]
        if f"{name}_null" in data:
            table["null"] = [number(v) for v in data[f"{name}_null"].values]
    else:
        table = pd.DataFrame(cells, index=index, columns=values[values.dims[1]].values.astype(str))
    return table.iloc[:_MOST_ROWS, :_MOST_COLUMNS].rename_axis(str(values.dims[0]))


def _cells(values: np.ndarray, q: np.ndarray | None) -> np.ndarray:
    text = np.empty(values.shape, dtype=object)
    for place, value in np.ndenumerate(values):
        if values.dtype.kind != "f":
            text[place] = shorten(str(value))
            continue
        mark = stars(float(q[place])) if q is not None and np.isfinite(q[place]) else ""
        text[place] = f"{number(float(value))}{mark}"
    return text
