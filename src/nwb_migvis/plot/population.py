"""The population: latents, loadings, reliability, and how the networks were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.plot.axes import (
    COLOURS,
    COLUMN_IN,
    GRAY,
    legend,
    one_of,
    own_axes,
    set_label,
    set_title,
    short_name,
)
from nwb_migvis.plot.recorded import curves
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 400
"""Points that are drawn as vectors; more become one picture inside the figure."""


def latents(
    results: Results,
    *,
    group: str | None = None,
    label: str | None = None,
    split: str | None = "test",
    ax: Axes | None = None,
) -> Axes:
    """Draw the stimuli in the first two principal axes of a group, coloured by a label.

    Parameters
    ----------
    results : Results
    group : str, optional
        The first one where it is None.
    label : str, optional
        A variable of `results.labels`; the group's own first label, or the first of all, where it is None.
    split : str or None
        Part of the stimuli; None draws all. Axes are those of the stimuli that are drawn.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    group = one_of(group, [str(name) for name in results.groups.index], "group")
    columns = np.flatnonzero(results.latents["group"].values == group)
    rows = np.ones(results.latents.sizes["stimulus"], bool)
    if split is not None:
        split = one_of(split, sorted(set(results.latents["split"].values.tolist())), "split")
        rows = results.latents["split"].values == split
    places, share = _principal(results.latents["mean"].values[rows][:, columns])
    ax = own_axes(ax, width_in=COLUMN_IN, height_in=COLUMN_IN * 0.85)
    label = _label_of(results, group, label)
    values = None if label is None else results.labels[label].values[rows]
    _scatter(ax, places, values, name=label)
    for which, part in zip("xy", share, strict=True):
        set_label(ax, which, f"axis {'xy'.index(which) + 1} ({100 * part:.0f} % of variance)")
    set_title(ax, short_name(group) + (f", coloured by {short_name(label)}" if label else ""))
    return ax


def _label_of(results: Results, group: str, label: str | None) -> str | None:
    known = [str(name) for name in results.labels.data_vars]
    if label is None:
        own = str(results.groups["supervised_by"][group]).split(",")
        return next((name for name in [*own, *known] if name in known), None)
    return one_of(label, known, "label", hint="the results hold no labels")


def _principal(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values along their first two principal axes, and the axes' shares of variance."""
    centred = np.asarray(values, np.float64) - values.mean(axis=0, keepdims=True)
    if centred.shape[1] < 2:
        centred = np.concatenate([centred, np.zeros((len(centred), 1))], axis=1)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    places = centred @ axes[:2].T
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    parts = np.pad(scales[:2] ** 2, (0, max(0, 2 - len(scales))))
    return places, parts / max(float((scales**2).sum()), 1e-300)


def _scatter(ax: Any, places: np.ndarray, values: np.ndarray | None, *, name: str | None) -> None:
    how: dict[str, Any] = {"s": 9, "linewidths": 0, "rasterized": len(places) > _MOST_POINTS}
    if values is None:
        ax.scatter(*places.T, color=COLOURS[0], **how)
        return
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        ax.scatter(*places[~known].T, color="#bbbbbb", **how)
        points = ax.scatter(*places[known].T, c=values[known], cmap="viridis", **how)
        bar = ax.figure.colorbar(points, ax=ax)
        bar.set_label(short_name(name), parse_math=False)
        return
    classes = sorted(set(values[values != ""].tolist()))
    marks = "os^DvP*X"
    for i, one in enumerate(classes):
        colour = COLOURS[i % len(COLOURS)]
        words = short_name(one, 16) if i < 10 else None
        ax.scatter(*places[values == one].T, color=colour, marker=marks[i // 8 % 8], label=words, **how)
    ax.scatter(*places[values == ""].T, color="#bbbbbb", **how)
    if classes:
        title = None if len(classes) <= 10 else f"first 10 of {len(classes)}"
        legend(ax, loc="center left", bbox_to_anchor=(1, 0.5), title=title, markerscale=1.4)


def loadings(results: Results, *, places: np.ndarray | None = None, ax: Axes | None = None) -> Axes:
    """Draw the loading of each unit on each latent, units sorted by place.

    Parameters
    ----------
    results : Results
    places : numpy.ndarray of str, shape (unit,), optional
        Where each unit is, to sort them by; the electrode group where the file has it with the results.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        Loadings are parameters, not held-out numbers. Colours span the 99th percentile of their sizes.
    """
    values = results.units["loading"].transpose("unit", "latent").values
    if places is None and "electrode_group" in results.units.coords:
        places = results.units["electrode_group"].values
    if places is not None:
        places = np.asarray(places).astype(str)
        values = values[np.argsort(places, kind="stable")]
    ax = own_axes(ax, width_in=COLUMN_IN, height_in=COLUMN_IN)
    finite = np.abs(values[np.isfinite(values)])
    most = (float(np.percentile(finite, 99)) if finite.size else 0) or 1.0
    picture = ax.imshow(values, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
    ax.figure.colorbar(picture, ax=ax, label="loading", shrink=0.9)
    firsts = results.groups["first"].to_numpy()
    for first in firsts[1:]:
        ax.axvline(first - 0.5, color="black", lw=0.6)
    middles = firsts + (results.groups["size"].to_numpy() - 1) / 2
    every = -(-len(middles) // 12) or 1
    names = [short_name(name, 14) for name in results.groups.index[::every]]
    ax.set_xticks(middles[::every], labels=names, parse_math=False, rotation=30, ha="right")
    if places is not None and len(values):
        edges = np.flatnonzero(np.sort(places)[1:] != np.sort(places)[:-1]) + 0.5
        for edge in edges:
            ax.axhline(edge, color="black", lw=0.6)
        middles = (np.concatenate([[-0.5], edges]) + np.concatenate([edges, [len(values) - 0.5]])) / 2
        ax.set_yticks(middles, labels=[short_name(p, 14) for p in sorted(set(places))], parse_math=False)
    set_label(ax, "y", "unit" if places is None else "unit, by place")
    return ax


def reliability(results: Results, *, ax: Axes | None = None) -> Axes:
    """Draw the R2 of each unit's responses from all latents against its noise ceiling.

    Parameters
    ----------
    results : Results
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        On test stimuli, one half of the repeats from the other. No model can expect to be above the line.
    """
    ceiling, r2 = results.units["noise_ceiling"].values, results.units["r2"].values
    ax = own_axes(ax, width_in=COLUMN_IN, height_in=COLUMN_IN * 0.85)
    most = max([1.0, *ceiling[np.isfinite(ceiling)]])
    least = min([0.0, *np.minimum(ceiling, r2)[np.isfinite(ceiling) & np.isfinite(r2)]])
    ax.plot([min(0.0, max(least, -1.0)), most], [min(0.0, max(least, -1.0)), most], color=GRAY, lw=0.8)
    many = len(r2) > _MOST_POINTS
    ax.scatter(ceiling, np.clip(r2, -1, None), s=9, color=COLOURS[0], linewidths=0, rasterized=many)
    set_label(ax, "x", "noise ceiling (half-split correlation)")
    set_label(ax, "y", "R2 from all latents")
    return ax


def training(results: Results, *, what: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the loss of a training on the validation stimuli against its steps.

    Parameters
    ----------
    results : Results
    what : str, optional
        Which training ("latents", "critic", ...); None draws all, each scaled to its first and least loss.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MigvisError
        If the file holds no curves: those of earlier versions do not.
    """
    trained = curves(results)
    if not trained:
        raise MigvisError("found no training curves in the results; expected a run of version 0.2 or later")
    ax = own_axes(ax)
    if what is not None:
        trained = {one_of(what, list(trained), "training"): trained[what]}
    for i, (name, (step, loss)) in enumerate(trained.items()):
        if what is None:
            step, span = step / max(step[-1], 1), max(float(loss[0] - np.nanmin(loss)), 1e-12)
            loss = (loss - np.nanmin(loss)) / span
        ax.plot(step, loss, color=COLOURS[i % len(COLOURS)], label=short_name(name))
    set_label(ax, "x", "step" if what else "share of the steps")
    set_label(ax, "y", "loss on validation stimuli" + ("" if what else ", 1: first, 0: least"))
    if what is None:
        ax.set_ylim(-0.05, 1.5)
        legend(ax)
    return ax
