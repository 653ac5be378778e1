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
    short_name,
)
from nwb_migvis.results import Results
from nwb_migvis.results.analysis_table import headlines, slices, title_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_SERIES = 8
_WIDTH_IN = 5.4
"""Of figures, inches: titles and legends name a variable, its slice and its series."""


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
        The first one that the analysis names and that has an axis and values where it is None.
    part : int
        Which of the pairs of axes, where the variable has more than two.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Estimates with 95 % intervals, filled where q (or p) is below 0.05; short gray lines are means of the
        nulls. A matrix of colours where there are many series, or both axes count places.

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
    drawable = [v for v in choices if dataset[v].ndim and np.isfinite(dataset[v].values).any()]
    variable = one_of(variable, choices if variable is not None else drawable or choices, "variable")
    data = dict(enumerate(slices(dataset, variable))).get(part)
    if data is None or data[1][variable].ndim == 0:
        raise MigvisError(
            f"found nothing to draw of {variable!r} in {name!r}; expected an axis; name another"
        )
    words, own = data
    values = own[variable]
    if not np.isfinite(values.values).any():
        raise MigvisError(
            f"found no value of {variable!r} in {name!r}{f' for {words}' if words else ''}; expected one or "
            "more; name another variable"
        )
    if values.ndim == 2 and (values.shape[1] > _MOST_SERIES or _counts_places(values)):
        ax = own_axes(ax, width_in=_WIDTH_IN, height_in=_height(values.shape[0]))
        largest = np.nanmax(np.abs(values.values))
        labels = [values[dim].values.tolist() for dim in values.dims]
        matrix(
            ax,
            values.values / (largest or 1),
            rows=labels[0],
            columns=labels[1],
            label=f"{variable} / {largest:.2g}",
        )
        for which, dim in zip("yx", values.dims, strict=True):
            set_label(ax, which, str(dim))
    else:
        height = _height(values.shape[0] * (1 + 0.3 * (values.ndim > 1)))
        ax = own_axes(ax, width_in=_WIDTH_IN, height_in=height)
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
    numbered = [str(dim).replace("_", " ") * (values[dim].dtype.kind in "if") for dim in values.dims]
    place, n = np.arange(len(rows), dtype=float), len(series)
    names = [short_name(f"{numbered[1]} {one}".strip()) for one in series]
    q = next((data[f"{variable}_{end}"].values for end in ("q", "p") if f"{variable}_{end}" in data), None)
    for i in range(n):
        at, colour = place + 0.7 * ((i + 0.5) / n - 0.5), COLOURS[i % len(COLOURS)]
        if {f"{variable}_low", f"{variable}_high"} <= set(data):
            low, high = (data[f"{variable}_{end}"].values[:, i] for end in ("low", "high"))
            ax.hlines(at, low, high, color=colour, lw=1)
        estimate = values.values[:, i].astype(float)
        filled = np.ones(len(rows), bool) if q is None else q[:, i] < 0.05
        ax.plot(estimate[filled], at[filled], "o", ms=4, color=colour)
        ax.plot(estimate[~filled], at[~filled], "o", ms=4, color=colour, mfc="white")
        if n > 1:
            ax.plot([], [], "o", ms=4, color=colour, label=names[i])
        if f"{variable}_null" in data:
            null = data[f"{variable}_null"].values[:, i]
            ax.vlines(null, at - 0.3 / n, at + 0.3 / n, color=GRAY, lw=1)
    name_ticks(ax, "y", rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    set_label(ax, "x", variable.replace("_", " "))
    set_label(ax, "y", numbered[0])
    if n > 1:
        _legend_below(ax, names)


def _legend_below(ax: Axes, names: list[str]) -> None:
    """Add a legend under the label of the x axis, in as many columns as the axes are wide."""
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties
    from matplotlib.transforms import ScaledTranslation

    font_in = FontProperties(size=rcParams["legend.fontsize"]).get_size_in_points() / 72
    width_in = ax.get_window_extent().width / ax.figure.dpi
    columns = int(width_in / (font_in * (0.55 * max(map(len, names)) + 3)))
    below = ScaledTranslation(0, -3.5 * font_in, ax.figure.dpi_scale_trans)
    legend(
        ax,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + below,
        ncols=min(max(columns, 1), 4),
    )


def _counts_places(values: xr.DataArray) -> bool:
    """Tell whether both axes of (row, column) are numbered places, not names of series."""
    return values.shape[1] > 1 and all(values[dim].dtype.kind in "iu" for dim in values.dims)


def _height(n_rows: float) -> float:
    return float(min(9.0, 1.5 + 0.4 * n_rows))
