"""Further analyses: what they name first, with intervals and nulls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plot.axes import (
    COLOURS,
    GRAY,
    legend,
    matrix,
    name_ticks,
    one_of,
    own_axes,
    set_label,
    set_title,
)
from nwb_migvis.results import Results
from nwb_migvis.results.analysis_table import headlines, slices, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SERIES = 8


def analysis(
    results: Results,
    *,
    name: str | None = None,
    variable: str | None = None,
    part: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Draw a variable of a further analysis: a row per value of its last axis but one, a colour per other.

    Parameters
    ----------
    results : Results
    name : str, optional
        Of the analysis; the first one where it is None.
    variable : str, optional
        The first one that the analysis names where it is None.
    part : int
        Which of the pairs of axes, where the variable has more than two.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Estimates with 95 % intervals, filled where q (or p) is below 0.05; short gray lines are means of the
        nulls. A matrix of colours where there are many series.

    Raises
    ------
    MigvisError
        If there is no such analysis, or nothing in it can be drawn.
    """
    name = one_of(name, list(results.analyses), "analysis", hint="Study.compute makes them")
    dataset = results.analyses[name]
    choices = [v for v in headlines(dataset) if dataset[v].dtype.kind in "fi"]
    if variable is not None and variable in dataset and dataset[variable].dtype.kind in "fi":
        choices = [variable, *choices]
    variable = one_of(variable, choices, "variable")
    data = dict(enumerate(slices(dataset, variable))).get(part)
    if data is None or data[1][variable].ndim == 0:
        raise MigvisError(
            f"found nothing to draw of {variable!r} in {name!r}; expected an axis; name another"
        )
    words, own = data
    values = own[variable]
    if values.ndim == 2 and values.shape[1] > _MOST_SERIES:
        ax = own_axes(ax, height_in=_height(values.shape[0]))
        largest = np.nanmax(np.abs(values.values)) if np.isfinite(values.values).any() else 1
        labels = [values[dim].values.tolist() for dim in values.dims]
        matrix(
            ax,
            values.values / (largest or 1),
            rows=labels[0],
            columns=labels[1],
            label=f"{variable} / {largest:.2g}",
        )
    else:
        ax = own_axes(ax, height_in=_height(values.shape[0] * (1 + 0.3 * (values.ndim > 1))))
        _points(ax, own, variable)
    set_title(ax, f"{title_of(name, dataset)}{f': {words}' if words else ''}")
    return ax


def _points(ax: Axes, data: xr.Dataset, variable: str) -> None:
    """Draw estimates with intervals, rows along y, series beside each other."""
    values = data[variable]
    if values.ndim == 1:
        data = data.expand_dims("series", axis=-1)
        values = data[variable]
    rows, series = (values[dim].values.tolist() if dim in data.coords else [""] for dim in values.dims)
    place, n = np.arange(len(rows), dtype=float), len(series)
    q = next((data[f"{variable}_{end}"].values for end in ("q", "p") if f"{variable}_{end}" in data), None)
    for i, one in enumerate(series):
        at, colour = place + 0.7 * ((i + 0.5) / n - 0.5), COLOURS[i % len(COLOURS)]
        if {f"{variable}_low", f"{variable}_high"} <= set(data):
            low, high = (data[f"{variable}_{end}"].values[:, i] for end in ("low", "high"))
            ax.hlines(at, low, high, color=colour, lw=1)
        estimate = values.values[:, i].astype(float)
        filled = np.ones(len(rows), bool) if q is None else q[:, i] < 0.05
        ax.plot(estimate[filled], at[filled], "o", ms=4, color=colour)
        ax.plot(estimate[~filled], at[~filled], "o", ms=4, color=colour, mfc="white")
        if n > 1:
            ax.plot([], [], "o", ms=4, color=colour, label=str(one)[:28])
        if f"{variable}_null" in data:
            null = data[f"{variable}_null"].values[:, i]
            ax.vlines(null, at - 0.3 / n, at + 0.3 / n, color=GRAY, lw=1)
    name_ticks(ax, "y", rows)
    ax.invert_yaxis()
    set_label(ax, "x", variable.replace("_", " "))
    if n > 1:
        legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)


def _height(n_rows: float) -> float:
    return float(min(9.0, 1.5 + 0.4 * n_rows))
