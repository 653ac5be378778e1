"""Runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.plot.axes import COLOURS, COLUMN_IN, legend, name_ticks, own_axes, set_label, short_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def side_by_side(table: pd.DataFrame, *, label: str = "", ax: Axes | None = None) -> Axes:
    """Draw one number of each group in several runs: other windows, areas or settings.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per group and one column per run, such as `compare_runs(path).side_by_side()`.
    label : str
        What the number is.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = own_axes(ax, width_in=COLUMN_IN * 1.3, height_in=1.2 + 0.34 * len(table))
    places = np.arange(len(table), dtype=float)
    for i, run in enumerate(table):
        at = places + 0.5 * ((i + 0.5) / len(table.columns) - 0.5)
        mark = "os^DvP*X"[i % 8]
        values = table[run].to_numpy(np.float64)
        ax.plot(values, at, mark, ms=4, color=COLOURS[i % len(COLOURS)], label=short_name(run))
    name_ticks(ax, "y", list(table.index))
    ax.set_ylim(len(table) - 0.5, -0.5)
    set_label(ax, "x", label)
    legend(ax, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax
