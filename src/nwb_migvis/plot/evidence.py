"""Evidence: what is explained, decoded, and moved by edits, with intervals and controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.verdict import stored_part
from nwb_migvis.plot.axes import (
    COLOURS,
    COLUMN_IN,
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
from nwb_migvis.plot.recorded import doses
from nwb_migvis.results import PARTS, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CONTROLS = ("none", "shuffled", "wrong-group")


def variance(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the variance of the repeatable responses that each group explains, alone and uniquely.

    Parameters
    ----------
    results : Results
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Bars with 95 % intervals where the file has them.
    """
    groups = results.groups
    ax = own_axes(ax, width_in=_width(groups), height_in=_height(len(groups)))
    place = np.arange(len(groups))
    for i, (column, title) in enumerate(
        (("variance_explained", "alone"), ("variance_unique", "beyond the other groups"))
    ):
        values = groups[column].to_numpy(float)
        at = place + 0.38 * (i - 0.5)
        ax.barh(at, np.nan_to_num(values), 0.36, color=COLOURS[i], label=title)
        if f"{column}_low" in groups:
            _intervals(
                ax, at, np.stack([groups[f"{column}_{end}"].to_numpy(float) for end in ("low", "high")])
            )
    _rows(ax, groups.index)
    set_label(ax, "x", "fraction of the repeatable variance")
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
    return ax


def verdicts(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the parts of each group's verdict: estimates, with filled marks where a part holds.

    Parameters
    ----------
    results : Results
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MigvisError
        If the file is of a version before verdicts had parts.
    """
    groups = results.groups
    if PARTS[0] not in groups:
        raise MigvisError("the verdicts have no parts: they are of version 0.1.0; expected a later run")
    ax = own_axes(ax, width_in=_width(groups), height_in=_height(len(groups)))
    place = np.arange(len(groups), dtype=float)
    for i, part in enumerate(PARTS):
        colour, at = COLOURS[i], place + 0.15 * (i - (len(PARTS) - 1) / 2)
        stored = [stored_part(row, part) for _, row in groups.iterrows()]
        estimate = np.array([own.estimate for own in stored])
        holds = np.array([own.holds for own in stored])
        _intervals(ax, at, np.array([own.interval for own in stored]).T, colour=colour)
        ax.plot(estimate[holds], at[holds], "o", ms=4, color=colour)
        ax.plot(estimate[~holds], at[~holds], "o", ms=4, color=colour, mfc="white")
        ax.plot([], [], "o", ms=4, color=colour, label=part.replace("_", " "))
    ax.axvline(0, color=GRAY, lw=0.8)
    _rows(ax, groups.index)
    set_label(ax, "x", "estimate with 95 % interval; filled: holds")
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=3)
    return ax


def decoding(results: Results, *, beyond: bool | None = None, ax: Axes | None = None) -> Axes:
    """Draw how well each label is decoded from each group.

    Parameters
    ----------
    results : Results
    beyond : bool, optional
        Whether beyond the other labels, image features and time; None where the file has that.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Cells that were not measured are gray.

    Raises
    ------
    MigvisError
        If no label was decoded, or not beyond the rest.
    """
    table = results.decoding
    has_beyond = "beyond" in table and bool(np.isfinite(table["beyond"].values).any())
    beyond = has_beyond if beyond is None else beyond
    column = "beyond" if beyond else "score"
    if column not in table or not np.isfinite(table[column].values).any():
        raise MigvisError(f"found no decoding ({column}) in the results; expected a session with labels")
    title = "decoded beyond the rest" if beyond else "decoding (R2 or balanced accuracy)"
    return _table(ax, table[column].transpose("group", "label"), title=title)


def selectivity(
    results: Results,
    *,
    score: str = "transfer",
    method: str = "pmi",
    reader: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how far edits of each group move each label, as one reader reads them.

    Parameters
    ----------
    results : Results
    score : {"transfer", "retention"}
    method, reader : str, optional
        The method proper and the first reader by default.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    table, hint = results.selectivity, "the run measured no label in its edits"
    score = one_of(score, ["transfer", "retention"], "score")
    method = one_of(method, table["method"].values.tolist(), "method", hint=hint)
    reader = one_of(reader, table["reader"].values.tolist(), "reader", hint=hint)
    cells = table[score].sel({"method": method, "reader": reader}).transpose("group", "label")
    return _table(ax, cells, title=f"{score}, read by {short_name(reader)}")


def transfer(
    results: Results, *, label: str | None = None, reader: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw how far edits of each group move one label, with intervals and controls.

    Parameters
    ----------
    results : Results
    label, reader : str, optional
        The first ones where they are None.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    table, hint = results.selectivity, "the run measured no label in its edits"
    label = one_of(label, table["label"].values.tolist(), "label", hint=hint)
    reader = one_of(reader, table["reader"].values.tolist(), "reader", hint=hint)
    methods = [m for m in ("pmi", *_CONTROLS) if m in table["method"].values]
    groups = table["group"].values.tolist()
    ax = own_axes(ax, width_in=_width(groups), height_in=_height(len(groups)))
    for i, method in enumerate(methods):
        cell = table.sel({"label": label, "reader": reader, "method": method})
        at = np.arange(len(groups)) + 0.18 * (i - (len(methods) - 1) / 2)
        bounds = np.stack([cell["transfer_low"].values, cell["transfer_high"].values])
        _intervals(ax, at, bounds, colour=COLOURS[i])
        mark = "o" if i == 0 else "s"
        ax.plot(cell["transfer"].values, at, mark, ms=4, color=COLOURS[i], label=_words(method))
    ax.axvline(0, color=GRAY, lw=0.8)
    ax.axvline(1, color=GRAY, lw=0.8, ls=":")
    _rows(ax, groups)
    set_label(ax, "x", "transfer (0: unmoved, 1: all the way)")
    set_title(ax, f"{short_name(label)}, read by {short_name(reader)}")
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.25), ncols=2)
    return ax


def dose(
    results: Results, *, group: str | None = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw transfer and retention of one label against the start step of the edits.

    Parameters
    ----------
    results : Results
    group, label : str, optional
        The first that were measured, where they are None.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        One line per reader and score. There are few pairs at each strength.
    """
    strength, cells = doses(results)
    group = one_of(group, list(cells), "group", hint="no edits at rising strengths were measured")
    label = one_of(label, list(cells[group]), "label")
    ax = own_axes(ax)
    for i, (reader, measured) in enumerate(cells[group][label].items()):
        for score, line in (("transfer", "o-"), ("retention", "s--")):
            words = f"{score} ({short_name(reader, 12)})"
            ax.plot(strength, measured[score], line, ms=3, color=COLOURS[i % len(COLOURS)], label=words)
    ax.axhline(0, color=GRAY, lw=0.8)
    set_label(ax, "x", "start step / T")
    set_title(ax, f"{short_name(group)}: {short_name(label)}")
    legend(ax)
    return ax


def _table(ax: Axes | None, cells: xr.DataArray, *, title: str) -> Axes:
    rows, columns = cells["group"].values.tolist(), cells["label"].values.tolist()
    ax = own_axes(ax, width_in=_width(rows) + 0.25 * len(columns), height_in=_height(len(rows)) + 0.6)
    matrix(ax, np.clip(cells.values, -1, 1), rows=rows, columns=columns, label="")
    set_title(ax, title)
    return ax


def _width(rows: Any) -> float:
    """Return the inches of a figure whose rows have names: those of a table, or a list of them."""
    names = rows.index if hasattr(rows, "columns") else rows
    return COLUMN_IN + 0.08 * max(len(short_name(name)) for name in names)


def _height(n_rows: int) -> float:
    return min(9.0, 1.4 + 0.34 * n_rows)


def _rows(ax: Any, names: object) -> None:
    """Write the names of rows, from the top."""
    rows = list(names)  # type: ignore[call-overload]
    name_ticks(ax, "y", rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)


def _intervals(ax: Any, at: np.ndarray, bounds: np.ndarray, *, colour: str = "black") -> None:
    ax.hlines(at, bounds[0], bounds[1], color=colour, lw=1.0)


def _words(method: str) -> str:
    return {"pmi": "guided", "none": "no guidance", "shuffled": "shuffled targets"}.get(method, method)
