"""What runs that a file holds were told when they read the session: counting window, labels, choices.

Only plain values are taken: a file must not make this program open other files or evaluate anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.plain import Json, free_name
from nwb_migvis.read.counting import check_window
from nwb_migvis.read.sizes import check_whole, whole
from nwb_migvis.sources import Source, open_hdf5

DEFAULT_WINDOW_S = (0.07, 0.17)
"""Counting window, seconds, where neither the user nor a run in the file says another."""

_MOST_JSON = 2**24
_FAULTS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
_CHOICES = ("units", "where")


@dataclass(frozen=True)
class EarlierRun:
    """What a run in a file was told.

    Attributes
    ----------
    name : str
    reading : dict
        Keywords of `read_session`, as its provenance has them; `window_s` of every run that counted.
    labels : dict of str to dict of str to value
        Values by stimulus id, numbers or text, of each label; unknown ones are omitted.
    problem : str
        Why it could not be read; "" where it could.
    """

    name: str
    reading: Json = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str | float]] = field(default_factory=dict)
    problem: str = ""


def earlier_runs(path: Source) -> list[EarlierRun]:
    """Return what each run in a session's file was told; none where the file holds no runs."""
    try:
        with open_hdf5(path) as file:
            analysis = file.get("analysis")
            names = list(analysis) if isinstance(analysis, h5py.Group) else []
            own = [name for name in names if isinstance(analysis.get(name, getlink=True), h5py.HardLink)]
            return [_read(name, analysis[name]) for name in own if _is_run(analysis[name])]
    except _FAULTS:
        return []  # the reading of the session itself says what is wrong with the file


def _is_run(item: Any) -> bool:
    kind = item.attrs.get("neurodata_type"), item.attrs.get("namespace")
    return isinstance(item, h5py.Group) and kind == ("MigvisRun", "ndx-migvis")


def _read(name: str, group: h5py.Group) -> EarlierRun:
    try:
        text = group["model"].attrs["provenance"]
        if not isinstance(text, str) or len(text) > _MOST_JSON:
            raise ValueError("its provenance is no text, or too long")
        provenance = json.loads(text)
        reading, session = ({**provenance.get(key, {})} for key in ("reading", "session"))
        window_s = reading.get("window_s", session.get("window_s"))
        if window_s is not None:
            reading["window_s"] = check_window(window_s)
        labels = _labels(group["stimulus_labels"]) if "stimulus_labels" in group else {}
        return EarlierRun(name, reading, labels)
    except (*_FAULTS, MigvisError, RecursionError) as error:
        return EarlierRun(name, problem=" ".join(str(error).split()))


def _labels(table: h5py.Group) -> dict[str, dict[str, str | float]]:
    stimuli = _values(table["stimulus"])
    labels = {}
    for column in table.values():
        name = column.attrs.get("label")
        if isinstance(name, str) and column.shape == stimuli.shape:
            values = zip(stimuli.tolist(), _values(column).tolist(), strict=True)
            labels[name] = {stimulus: value for stimulus, value in values if value not in ("", None)}
            labels[name] = {key: value for key, value in labels[name].items() if value == value}
    return labels


def _values(column: h5py.Dataset) -> np.ndarray:
    """Return one number or text per row."""
    if column.ndim != 1:
        raise ValueError(f"{column.name} has {column.ndim} dimensions")
    if h5py.check_string_dtype(column.dtype) is not None:
        check_whole(column)
        return column.asstr()[()]
    if column.dtype.kind != "f":
        raise ValueError(f"{column.name} holds {column.dtype}")
    return whole(column)


@dataclass(frozen=True)
class Recalled:
    """What of earlier runs a session is read with.

    Attributes
    ----------
    window_s : (float, float)
    allow_long_window : bool
        Whether a run that counted in this window was told so.
    notes : dict of str to str
        What was recalled, or not, by name.
    """

    window_s: tuple[float, float]
    allow_long_window: bool = False
    notes: Json = field(default_factory=dict)


def recalled(runs: Sequence[EarlierRun], given: Mapping[str, Any]) -> Recalled:
    """Choose the counting window where the user gave none: the one that all runs of the file counted in.

    Parameters
    ----------
    runs : sequence of EarlierRun
    given : mapping
        Keywords of `read_session`; None for what was not given.
    """
    notes = {run.name: f"cannot be read: {run.problem}" for run in runs if run.problem}
    for key in _CHOICES:
        queries = {run.name: run.reading[key] for run in runs if isinstance(run.reading.get(key), str)}
        if queries and given.get(key) is None:
            of_runs = "; ".join(f"{value!r} in run {name!r}" for name, value in queries.items())
            notes[key] = f"{of_runs}, and not here; give it again to read the same"
    if given.get("window_s") is not None:
        return Recalled(given["window_s"], notes=_shown(notes))
    windows: dict[tuple[float, float], list[EarlierRun]] = {}
    for run in runs:
        if "window_s" in run.reading:
            windows.setdefault(run.reading["window_s"], []).append(run)
    if len(windows) != 1:
        if windows:
            each = ", ".join(
                f"{first:g} to {last:g} s in run {own[0].name!r}" for (first, last), own in windows.items()
            )
            first, last = DEFAULT_WINDOW_S
            notes["window_s"] = f"{each}: they differ, so that {first:g} to {last:g} s is used; give one"
        return Recalled(DEFAULT_WINDOW_S, notes=_shown(notes))
    ((window_s, own),) = windows.items()
    if window_s != DEFAULT_WINDOW_S:
        notes["window_s"] = f"that of run {', '.join(repr(run.name) for run in own)}"
    return Recalled(window_s, any(run.reading.get("allow_long_window") is True for run in own), _shown(notes))


def with_recalled_labels(session: xr.Dataset, runs: Sequence[EarlierRun]) -> xr.Dataset:
    """Return a session with the labels that earlier runs were told and its file's tables do not have.

    A label that two runs know differently is omitted, and noted.
    """
    stimuli = session["stimulus"].values.tolist()
    coords, notes = {}, {}
    for name in dict.fromkeys(name for run in runs for name in run.labels):
        if name in session.coords and session[name].dims == ("stimulus",):
            continue
        own = [run for run in runs if name in run.labels]
        values: dict[str, str | float] = {}
        agrees = all(
            values.setdefault(stimulus, value) == value
            for run in own
            for stimulus, value in run.labels[name].items()
        )
        of_runs = ", ".join(repr(run.name) for run in own)
        kinds = {isinstance(value, str) for value in values.values()}
        if not agrees or len(kinds) > 1:
            notes[f"label {name}"] = f"another in each of the runs {of_runs}: omitted; give it with a CSV"
            continue
        is_text = kinds == {True}
        column = [values.get(stimulus, "" if is_text else np.nan) for stimulus in stimuli]
        if not any(stimulus in values for stimulus in stimuli):
            continue
        if name in session.coords:
            session = session.rename({name: free_name(name, set(map(str, session.variables)))})
        coords[name] = ("stimulus", np.array(column, dtype=str if is_text else np.float64))
        notes[f"label {name}"] = f"that of run {of_runs}"
    recorded = {**session.attrs["recalled"], **_shown(notes)}
    return session.assign_coords(coords).assign_attrs(recalled=recorded)


def _shown(notes: Mapping[str, str]) -> Json:
    return {printable(name): printable(text) for name, text in notes.items()}
