"""Figures of single further analyses: names of groups, and where in images their information is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plot.axes import COLOURS, GRAY, name_ticks, own_axes, set_label, set_title, short_name
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABSTAINS = "no name"


def made(results: Results, name: str, needs: tuple[str, ...]) -> xr.Dataset:
    """Return an analysis with the variables that a figure draws.

    Raises
    ------
    MigvisError
        If the results lack it.
    """
    found = results.analyses.get(name)
    if found is None or not set(needs) <= set(found.variables):
        raise MigvisError(f"found no analysis {name!r} to draw; expected one; compute it (Study.compute)")
    return found.isel(session=0) if "session" in found.dims else found


def names(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw what the ends of each group's directions are called, and how far values there stand off.

    Parameters
    ----------
    results : Results
        With the analysis `names`; of several sessions the first one is drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row per group and axis, with the group's name. Bars to both sides have the lean of what an end is
        called after; ends without a name have none.

    Raises
    ------
    MigvisError
        If the analysis was not made.
    """
    found = made(results, "names", ("name", "end_name", "lean", "lean_q", "axis"))
    rows = [(g, a) for g in range(found.sizes["group"]) for a in range(found.sizes["axis"])]
    ax = own_axes(ax, height_in=min(9.0, 1.2 + 0.3 * len(rows)))
    far = 1.0
    for y, (group, axis) in enumerate(rows):
        for e, side in enumerate((-1, 1)):
            cell = found.isel(group=group, axis=axis, end=e)
            words = str(cell["end_name"].values)
            holds = (cell["lean_q"].values < 0.05) & bool(words)
            length = float(np.nanmax(cell["lean"].values[holds])) if holds.any() else 0.0
            far = max(far, length)
            ax.barh(y, side * length, color=COLOURS[group % len(COLOURS)], alpha=0.35, height=0.7)
            ax.text(
                side * 0.03, y, short_name(words), ha="right" if side < 0 else "left", va="center",
                fontsize="small", parse_math=False,
            )  # fmt: skip
    called = [
        f"{found['group'].values[g]} {a + 1}: {str(found['name'].values[g]) or _ABSTAINS}" for g, a in rows
    ]
    name_ticks(ax, "y", called)
    ax.invert_yaxis()
    ax.axvline(0, color=GRAY, lw=0.6)
    ax.set_xlim(-1.1 * far, 1.1 * far)
    set_label(ax, "x", "lean of the low and of the high end (SD)")
    set_title(ax, "Names")
    return ax


def places(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the first images of the analysis `places`, each group's map over them.

    Parameters
    ----------
    results : Results
        With the analysis `places`; of several sessions the first one is drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row per group, a column per image; the first row has the images alone. Colour goes from none to
        the map's largest value in the image.

    Raises
    ------
    MigvisError
        If the analysis was not made.
    """
    found = made(results, "places", ("map", "picture"))
    pictures, maps = found["picture"].values.astype(float), found["map"].values
    ax = own_axes(ax, height_in=min(9.0, 0.6 * (len(maps) + 1) + 0.6))
    for i, picture in enumerate(pictures):
        for row in range(len(maps) + 1):
            place = (i, i + 0.95, row + 0.95, row)
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=place)
            if row and (own := maps[row - 1, i]).max() > 0:
                clear = np.clip(own / own.max(), 0, 1)
                ax.imshow(own, cmap="inferno", alpha=0.75 * clear, extent=place)
    ax.set_xlim(0, len(pictures))
    ax.set_ylim(len(maps) + 1, 0)
    ax.set_aspect("equal")
    ax.set_xticks([])
    words = ["images", *(short_name(name) for name in found["group"].values)]
    ax.set_yticks(np.arange(len(words)) + 0.5, labels=words, parse_math=False)
    set_title(ax, "Places in images")
    return ax
