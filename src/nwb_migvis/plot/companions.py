"""Figures of single further analyses: names of groups, where in images their information is, and states."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plot.axes import (
    COLOURS,
    GRAY,
    PAGE_IN,
    name_ticks,
    own_axes,
    set_label,
    set_title,
    short_name,
)
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABSTAINS = "no name"
_NAMED = (("name", "end_name", "lean"), ("group_word", "end_word", "word_lean"))
"""Names of groups and ends with the lean that they are after: of labels, and of a vocabulary."""


def made(results: Results, name: str, needs: tuple[str, ...]) -> xr.Dataset:
    """Return an analysis with the variables that a figure draws; of several sessions the results' own.

    Raises
    ------
    MigvisError
        If the results lack it.
    """
    found = results.analyses.get(name)
    if found is None or not set(needs) <= set(found.variables):
        raise MigvisError(f"found no analysis {name!r} to draw; expected one; compute it (Study.compute)")
    return found.isel(session=0) if "session" in found.dims else found


def title(words: str, found: xr.Dataset) -> str:
    """Return a title, with the name of the session where there are several."""
    return f"{words}: {short_name(found['session'].item())}" if "session" in found.coords else words


def names(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw what the ends of each group's directions are called, and how far values there stand off.

    Parameters
    ----------
    results : Results
        With the analysis `names`; of several sessions that of the results is drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row per group and axis, with the group's name by labels and by a vocabulary. Bars to both sides have
        the lean of what an end is called after; ends without a name have none.

    Raises
    ------
    MigvisError
        If the analysis was not made.
    """
    there = set(made(results, "names", ("axis",)).variables)
    own = {kind[0]: kind for kind in _NAMED if {*kind, f"{kind[2]}_q"} <= there}
    found = made(results, "names", () if own else ("lean_q", *_NAMED[0]))
    rows = [(g, a) for g in range(found.sizes["group"]) for a in range(found.sizes["axis"])]
    ax = own_axes(ax, width_in=PAGE_IN, height_in=min(9.0, 1.2 + 0.3 * len(rows)))
    far = 1.0
    for y, (group, axis) in enumerate(rows):
        for e, side in enumerate((-1, 1)):
            words, length = _end(found.isel(group=group, axis=axis, end=e), list(own.values()))
            far = max(far, length)
            ax.barh(y, side * length, color=COLOURS[group % len(COLOURS)], alpha=0.35, height=0.7)
            said = ax.text(
                side * 0.03, y, short_name(words, 34), ha="right" if side < 0 else "left", va="center",
                fontsize="small", parse_math=False, clip_on=True,
            )  # fmt: skip
            said.set_in_layout(False)
    called = [_joined(found[name].values[g] for name in own) or _ABSTAINS for g, _ in rows]
    labels = [
        f"{found['group'].values[g]} {a + 1}: {name}" for (g, a), name in zip(rows, called, strict=True)
    ]
    name_ticks(ax, "y", labels)
    ax.invert_yaxis()
    ax.axvline(0, color=GRAY, lw=0.6)
    ax.set_xlim(-1.1 * far, 1.1 * far)
    set_label(ax, "x", "lean of the low and of the high end (SD)")
    set_title(ax, title("Names", found))
    return ax


def _end(cell: xr.Dataset, kinds: list[tuple[str, str, str]]) -> tuple[str, float]:
    """Return what an end is called by labels and by words, and the largest lean of these."""
    said, length = [], 0.0
    for _, name, lean in kinds:
        words = str(cell[name].values)
        holds = (cell[f"{lean}_q"].values < 0.05) & bool(words)
        if holds.any():
            length = max(length, float(np.nanmax(cell[lean].values[holds])))
        said.append(words)
    return _joined(said), length


def _joined(words: Iterable[object]) -> str:
    return "; ".join(filter(None, map(str, words)))


def places(results: Results, *, variable: str = "map", ax: Axes | None = None) -> Axes:
    """Draw the first images of the analysis `places`, each group's map over them.

    Parameters
    ----------
    results : Results
        With the analysis `places`; of several sessions that of the results is drawn.
    variable : {"map", "feature_map"}
        The map of covered places, or of features.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row per group, a column per image; the first row has the images alone. Colour goes from none to
        the map's largest value in the image.

    Raises
    ------
    MigvisError
        If the analysis was not made, or has no such map.
    """
    if variable not in ("map", "feature_map"):
        raise MigvisError(f"found variable = {variable!r}; expected 'map' or 'feature_map'")
    found = made(results, "places", (variable, "picture"))
    pictures, maps = found["picture"].values.astype(float), found[variable].values
    ax = own_axes(ax, height_in=min(9.0, 0.6 * (len(maps) + 1) + 0.6))
    for i, picture in enumerate(pictures):
        for row in range(len(maps) + 1):
            place = (i, i + 0.95, row + 0.95, row)
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=place)
            if row and (own := maps[row - 1, i]).max() > 0:
                clear = np.clip(own / own.max(), 0, 1)
                ax.imshow(own, cmap="inferno", alpha=0.75 * clear, extent=place)
    words = ["images", *(short_name(name) for name in found["group"].values)]
    _tiles(ax, len(pictures), words)
    set_title(ax, title("Places in images", found))
    return ax


def states(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw an image whose groups are edited towards each state; without edits the counts expected there.

    Parameters
    ----------
    results : Results
        With the analysis `states`; of several sessions that of the results is drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        A row per state and a column per group, after the image's reconstruction without guidance: of the
        first image that was edited. Without such pictures a row per state and a column per unit: expected
        spike count, minus the mean over states where there are several.

    Raises
    ------
    MigvisError
        If the analysis was not made, or holds neither.
    """
    found = made(results, "states", ("n_states", "share"))
    if {"picture", "rebuilt_picture"} <= set(found.variables):
        return _state_pictures(found, ax)
    found = made(results, "states", ("rate", "share"))
    rate, several = found["rate"].values, found.sizes["state"] > 1
    rate = rate - rate.mean(axis=0) if several else rate
    ax = own_axes(ax, height_in=min(9.0, 2.0 + 0.4 * len(rate)))
    far = max(float(np.abs(rate).max()), 1e-9)
    colours, least = ("RdBu_r", -far) if several else ("viridis", 0.0)
    image = ax.imshow(rate, cmap=colours, vmin=least, vmax=far, aspect="auto", interpolation="nearest")
    name_ticks(ax, "y", _state_names(found))
    set_label(ax, "x", "unit")
    set_title(ax, title("States", found))
    less = "\nminus the mean over states" if several else ""
    ax.figure.colorbar(image, ax=ax, label=f"spikes per presentation{less}")
    return ax


def _state_pictures(found: xr.Dataset, ax: Axes | None) -> Axes:
    """Draw the first source beside its edits, (state, group)."""
    pictures, before = found["picture"].values[:, :, 0], found["rebuilt_picture"].values[0]
    width_in = min(PAGE_IN, max(4.6, 2.0 + 0.7 * (pictures.shape[1] + 1)))
    ax = own_axes(ax, width_in=width_in, height_in=min(9.0, 0.9 * len(pictures) + 0.8))
    for row, own in enumerate(pictures):
        for column, picture in enumerate([before, *own]):
            place = (column, column + 0.95, row + 0.95, row)
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=place)
    columns = ["none", *(short_name(name) for name in found["group"].values)]
    _tiles(ax, len(columns), _state_names(found)[: len(pictures)])
    ax.set_xticks(
        np.arange(len(columns)) + 0.5,
        labels=columns,
        rotation=30,
        ha="right",
        rotation_mode="anchor",
        parse_math=False,
    )
    set_title(ax, title("An image edited towards states", found))
    return ax


def _state_names(found: xr.Dataset) -> list[str]:
    words = found["dominant"].values if "dominant" in found else [""] * found.sizes["state"]
    said = zip(found["state"].values, words, found["share"].values, strict=True)
    return [f"state {k}{f' {word}' if word else ''} ({share:.0%})" for k, word, share in said]


def _tiles(ax: Axes, n_columns: int, words: list[str]) -> None:
    """Set the frame of a table of pictures, a row per word."""
    ax.set_xlim(0, n_columns)
    ax.set_ylim(len(words), 0)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks(np.arange(len(words)) + 0.5, labels=[short_name(word) for word in words], parse_math=False)
