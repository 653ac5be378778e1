"""What a session holds, for people and for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from nwb_migvis.plain import Json
from nwb_migvis.read.archive import archive_notes
from nwb_migvis.read.assembly import Need
from nwb_migvis.read.session import Asked, load
from nwb_migvis.sources import Source, as_source


def inspect_session(
    paths: str | Source | h5py.File | Sequence[str | Source | h5py.File],
    *,
    labels: str | Path | None = None,
    remark: Callable[[xr.Dataset], list[str]] | None = None,
    **reading: Any,
) -> Json:
    """Return what one session or several hold; images without pixels are not an error here.

    Parameters
    ----------
    paths : path or sequence of path
        Or addresses, or open files, as for `read_session`.
    labels : path, optional
        CSV with a `stimulus` column.
    remark : callable, optional
        Returns notes on a session, which become `notes` (`nwb_migvis.evidence.design.design_notes`).
    **reading
        As for `read_session`.

    Returns
    -------
    dict
        JSON-serialisable. For one path: `source`, `identifier`, `layout`, `found_in`, `window_s`,
        `n_units`, `n_silent_units`, `n_presentations`, `n_stimuli`, `image_shape` ([y, x] or
        [y, x, channel], None without pixels), `labels` (name -> `kind` and number of values `n_values`),
        `not_labels` (column -> why it is not a label),
        `n_units_not_always_observed` and `observed_fraction` (of counts), `n_merged` samples, `not_joined`
        (table -> why), `recalled` (what runs in the file were told -> whether it is used), `repeats` (`min`,
        `median`, `max`), `n_blank`, `n_dropped`, `dropped` (reason -> n), `median_rate_hz` and `reliability`
        (medians over units; split-half, Spearman-Brown; None where
        undefined), `archive` (what the DANDI archive asks for and the file lacks).
        For a sequence: `sessions` (one such dict each), `n_stimuli` of all and
        `n_shared_stimuli`, those of every session.

    Raises
    ------
    MigvisError
        As `read_session`.
    """
    asked = Asked(**reading)
    is_one = isinstance(paths, str) or not isinstance(paths, Sequence)
    asked_for = list(paths) if isinstance(paths, Sequence) and not is_one else [paths]
    sources = [as_source(path, what="path") for path in asked_for]
    loaded = [load(source, asked, need=Need.NOTHING) for source in sources]
    names = {name for item in loaded for name in (*item.names, *item.session["stimulus"].values.tolist())}
    sessions = [item.labelled(labels, more_stimuli=names) for item in loaded]
    contents = [inspection(session) for session in sessions]
    if remark is not None:
        for session, one in zip(sessions, contents, strict=True):
            one["notes"] = remark(session)
    for source, one in zip(sources, contents, strict=True):
        one["archive"] = archive_notes(source)
    if is_one:
        return contents[0]
    stimuli = [set(session["stimulus"].values.tolist()) for session in sessions]
    return {
        "sessions": contents,
        "n_stimuli": len(set().union(*stimuli)),
        "n_shared_stimuli": len(set.intersection(*stimuli)) if stimuli else 0,
    }


def inspection(session: xr.Dataset) -> Json:
    """Return what a session dataset holds, as `inspect_session` does for a file."""
    counts = session["spike_count"].values
    repeats = np.bincount(session["stimulus_index"].values, minlength=session.sizes["stimulus"])
    first, last = session.attrs["window_s"]
    observed = session["observed"].values if "observed" in session else np.ones(counts.shape, bool)
    reliability = split_half_reliability(counts, session["stimulus_index"].values)
    for unit in np.flatnonzero(~observed.all(axis=0)):
        own = observed[:, unit]
        index = session["stimulus_index"].values[own]
        reliability[unit] = split_half_reliability(counts[own][:, [unit]], index)[0] if own.any() else np.nan
    finite = reliability[np.isfinite(reliability)]
    with np.errstate(invalid="ignore"):
        per_window = counts.sum(axis=0) / observed.sum(axis=0)
    return {
        "source": session.attrs["source"],
        "identifier": session.attrs["identifier"],
        "layout": session.attrs["layout"],
        "found_in": session.attrs["found_in"],
        "window_s": [first, last],
        "n_units": session.sizes["unit"],
        "n_silent_units": int((counts.sum(axis=0) == 0).sum()),
        "n_presentations": session.sizes["presentation"],
        "n_stimuli": session.sizes["stimulus"],
        "image_shape": list(session["image"].shape[1:]) if "image" in session else None,
        "labels": _label_kinds(session),
        "not_labels": dict(session.attrs["not_labels"]),
        "repeats": {
            "min": int(repeats.min()),
            "median": float(np.median(repeats)),
            "max": int(repeats.max()),
        },
        "n_blank": session.attrs["n_blank"],
        "n_dropped": session.attrs["n_dropped"],
        "dropped": dict(session.attrs["dropped"]),
        "n_merged": session.attrs["n_merged"],
        "not_joined": dict(session.attrs["not_joined"]),
        "recalled": dict(session.attrs["recalled"]),
        "n_units_not_always_observed": int((~observed.all(axis=0)).sum()),
        "observed_fraction": float(observed.mean()),
        "median_rate_hz": float(np.nanmedian(per_window / (last - first))),
        "reliability": float(np.median(finite)) if len(finite) else None,
    }


def _label_kinds(session: xr.Dataset) -> dict[str, Json]:
    kinds = {}
    for name, coord in session.coords.items():
        if coord.dims == ("stimulus",) and name != "stimulus":
            values = coord.values
            is_number = values.dtype.kind == "f"
            present = values[~np.isnan(values)] if is_number else values[values != ""]
            kinds[str(name)] = {
                "kind": "numeric" if is_number else "categorical",
                "n_values": len(np.unique(present)),
            }
    return kinds


def split_half_reliability(counts: np.ndarray, stimulus_index: np.ndarray) -> np.ndarray:
    """Return the split-half reliability of each unit's mean counts over stimuli.

    Repeats of a stimulus go to the halves in turn, in the order of the rows; the correlation of the halves
    over stimuli with at least two repeats is corrected to the full length by Spearman and Brown.

    Parameters
    ----------
    counts : numpy.ndarray
        (presentation, unit).
    stimulus_index : numpy.ndarray
        (presentation,).

    Returns
    -------
    numpy.ndarray
        (unit,) float64; NaN where undefined (no repeats, fewer than three stimuli, or no variance).
    """
    sizes = np.bincount(stimulus_index)
    if (sizes > 1).sum() < 3:
        return np.full(counts.shape[1], np.nan)
    order = np.argsort(stimulus_index, kind="stable")
    repeat = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    is_repeated = sizes[stimulus_index[order]] > 1
    halves = []
    for which in (0, 1):
        rows = order[is_repeated & (repeat % 2 == which)]
        _, first, n = np.unique(stimulus_index[rows], return_index=True, return_counts=True)
        means = np.add.reduceat(counts[rows], first, axis=0, dtype=np.float64) / n[:, None]
        halves.append(means - means.mean(axis=0))
    one, two = halves
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (one * two).sum(axis=0) / np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
        return 2 * r / (1 + r)


def describe(contents: Json) -> str:
    """Return an inspection as text for people: a list for one session, one table for several."""
    return _table(contents) if "sessions" in contents else _list(contents)


def _list(contents: Json) -> str:
    shape = "none" if contents["image_shape"] is None else " x ".join(map(str, contents["image_shape"]))
    labels = [
        f"{name} ({label['kind']}, {label['n_values']} values)" for name, label in contents["labels"].items()
    ]
    dropped = ", ".join(f"{n} ({why})" for why, n in contents["dropped"].items())
    repeats = contents["repeats"]
    lines = {
        "session": f"{contents['identifier']} ({contents['source']})",
        "layout": f"{contents['layout']} ({contents['found_in']})",
        "units": f"{contents['n_units']} ({contents['n_silent_units']} silent)",
        "presentations": f"{contents['n_presentations']}",
        "blanks": f"{contents['n_blank']}",
        "dropped": dropped or "none",
        "observed": _observed_text(contents),
        "stimuli": f"{contents['n_stimuli']}",
        "repeats": f"{repeats['min']} to {repeats['max']} (median {repeats['median']:g})",
        "image shape": shape,
        "labels": ", ".join(labels) or "none",
        "no labels": ", ".join(f"{name} ({why})" for name, why in contents["not_labels"].items()) or "none",
        "not joined": ", ".join(f"{name} ({why})" for name, why in contents["not_joined"].items()) or "none",
        "recalled": ", ".join(f"{name} ({how})" for name, how in contents["recalled"].items()) or "nothing",
        "window": f"{contents['window_s'][0]:g} to {contents['window_s'][1]:g} s",
        "median rate": f"{contents['median_rate_hz']:.2f} Hz",
        "reliability": _number(contents["reliability"]),
        "archive": "; ".join(contents.get("archive", ())) or "holds what DANDI asks for",
    }
    width = max(map(len, lines))
    text = [f"{name:<{width}}  {text}" for name, text in lines.items()]
    return "\n".join([*text, *(f"note: {note}" for note in contents.get("notes", ()))])


def _observed_text(contents: Json) -> str:
    if not contents["n_units_not_always_observed"]:
        return "all units throughout"
    return (
        f"{100 * contents['observed_fraction']:.1f} % of counts; {contents['n_units_not_always_observed']} "
        f"units not "
        "throughout (obs_intervals)"
    )


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


def _table(contents: Json) -> str:
    head: tuple[str, ...] = (
        "session",
        "layout",
        "units",
        "presentations",
        "stimuli",
        "repeats",
        "image",
        "labels",
        "rate Hz",
        "reliability",
    )
    rows = [head]
    for one in contents["sessions"]:
        shape = "none" if one["image_shape"] is None else "x".join(map(str, one["image_shape"]))
        cells = (one["identifier"], one["layout"], one["n_units"], one["n_presentations"], one["n_stimuli"])
        more = (f"{one['repeats']['median']:g}", shape, ",".join(one["labels"]) or "none")
        rows.append((*map(str, cells), *more, f"{one['median_rate_hz']:.2f}", _number(one["reliability"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += [
        f"note: {one['identifier']}: {note}" for one in contents["sessions"] for note in one.get("notes", ())
    ]
    lines.append(f"{contents['n_stimuli']} stimuli in all, {contents['n_shared_stimuli']} in every session")
    return "\n".join(lines)
