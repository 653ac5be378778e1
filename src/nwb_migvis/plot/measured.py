"""A session in which edits were shown: what was predicted of them, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.plot.axes import (
    COLOURS,
    COLUMN_IN,
    GRAY,
    PAGE_IN,
    legend,
    name_ticks,
    own_axes,
    set_label,
    style,
)
from nwb_migvis.results.measured import MeasuredEdits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_METHODS = {"pmi": "guided", "none": "no guidance", "shuffled": "shuffled targets"}


def measured_transfer(measured: MeasuredEdits, *, ax: Axes | None = None) -> Axes:
    """Draw how far edits moved their group's measured latents towards the target's, with controls.

    Parameters
    ----------
    measured : MeasuredEdits
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Transfers with 95 % intervals, filled where q is below 0.05; crosses are what the encoding check of
        the run predicted.
    """
    groups = list(measured.groups.index)
    methods = [m for m in dict.fromkeys(measured.cells["method"]) if m in _METHODS]
    ax = own_axes(ax, width_in=1.4 * COLUMN_IN, height_in=1.6 + 0.4 * len(groups))
    for i, method in enumerate(methods):
        own, colour = measured.own(method).loc[groups], COLOURS[i]
        at = np.arange(len(groups)) + 0.2 * (i - (len(methods) - 1) / 2)
        ax.hlines(at, own["transfer_low"], own["transfer_high"], color=colour, lw=1.0)
        holds = (own["q_value"] < 0.05).to_numpy()
        transfer = own["transfer"].to_numpy()
        ax.plot(transfer[holds], at[holds], "o", ms=4, color=colour)
        ax.plot(transfer[~holds], at[~holds], "o", ms=4, color=colour, mfc="white")
        ax.plot([], [], "o", ms=4, color=colour, label=_METHODS[method])
        ax.plot(own["predicted_transfer"], at, "x", ms=4, color=colour)
    ax.plot([], [], "x", ms=4, color=GRAY, label="predicted")
    ax.axvline(0, color=GRAY, lw=0.8)
    ax.axvline(1, color=GRAY, lw=0.8, ls=":")
    name_ticks(ax, "y", groups)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    set_label(ax, "x", "measured transfer of the group's latents")
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return ax


def measured_units(measured: MeasuredEdits, *, ax: Axes | None = None) -> Axes:
    """Draw how well each unit's counts were predicted over edits, against what repeats allow.

    Parameters
    ----------
    measured : MeasuredEdits
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MigvisError
        If the run predicted no responses.
    """
    units = measured.units
    if not np.isfinite(units["predicted"]).any():
        raise MigvisError("found no predicted responses of the edits; expected a run with an encoding check")
    ax = own_axes(ax, width_in=COLUMN_IN, height_in=COLUMN_IN)
    ax.plot([0, 1], [0, 1], color=GRAY, lw=0.8)
    ax.axhline(0, color=GRAY, lw=0.8, ls=":")
    ax.plot(units["ceiling"], units["predicted"], "o", ms=3, color=COLOURS[0], mec="none")
    set_label(ax, "x", "ceiling: root of the reliability")
    set_label(ax, "y", "correlation, predicted and measured counts")
    return ax


def draw_measured(measured: MeasuredEdits, out: Path) -> Path:
    """Draw transfers and, where responses were predicted, units side by side into an image file."""
    with style():
        from matplotlib.figure import Figure

        has_units = bool(np.isfinite(measured.units["predicted"]).any())
        height = max(2.8, 1.6 + 0.4 * len(measured.groups))
        width = PAGE_IN if has_units else 1.4 * COLUMN_IN
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, 2 if has_units else 1, squeeze=False)[0]
        measured_transfer(measured, ax=axes[0])
        if has_units:
            measured_units(measured, ax=axes[1])
        try:
            figure.savefig(out, dpi=200)
        except (OSError, ValueError) as error:
            raise MigvisError(f"{out} cannot be written ({error}); give the path of a PNG") from None
    return out
