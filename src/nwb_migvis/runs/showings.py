"""Which of a run's pictures a session showed, and which of its units are those of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv
from nwb_migvis.pixels import resize_images
from nwb_migvis.plain import nearest
from nwb_migvis.read.folder import SUFFIXES
from nwb_migvis.results import Results
from nwb_migvis.results.pictures import edit_files, real_file

MOST_DIFFERENCE = 16
"""Gray levels by which pictures may differ on average before a note says so."""

_MOST_COMPARED = 64


@dataclass(frozen=True, eq=False)
class Showing:
    """Rows of a session's stimuli that are pictures of a run.

    Attributes
    ----------
    edit : numpy.ndarray of int, shape (n_edits,)
        Row among the session's stimuli of each edit of the run; -1 where it was not shown.
    real : numpy.ndarray of int, shape (n_stimuli,)
        The same of each stimulus of the run.
    """

    edit: np.ndarray
    real: np.ndarray


def pictures_shown(session: xr.Dataset, results: Results, *, stimuli: str | Path | None = None) -> Showing:
    """Find a run's pictures among a session's stimuli.

    Pictures have the names of the files that `export_stimuli` writes, with or without folder and suffix; real
    images may also have the ids that they had in the run's session.

    Parameters
    ----------
    session : xarray.Dataset
        As `read_session` returns it.
    results : Results
    stimuli : path, optional
        A CSV with the columns `stimulus` (what the session calls a picture) and `file`.

    Raises
    ------
    MigvisError
        If the session showed none of the run's edits.
    """
    names = [str(name) for name in session["stimulus"].values]
    files = dict(zip(names, names, strict=True)) | _renamed(stimuli)
    was_shown = set(session["stimulus_index"].values.tolist())
    row = {_bare(files[name]): i for i, name in enumerate(names) if i in was_shown}
    edits = results.synthesized
    of_edits = edit_files(edits, np.arange(edits.sizes["edit"]))
    ids = [str(name) for name in results.latents["stimulus"].values]
    edit = np.array([row.get(_bare(name), -1) for name in of_edits], dtype=np.int64)
    real = np.array(
        [row.get(_bare(real_file(i, name)), row.get(_bare(name), -1)) for i, name in enumerate(ids)],
        dtype=np.int64,
    )
    if not (edit >= 0).any():
        raise MigvisError(
            f"{session.attrs.get('source', 'the session')}: found none of the {len(edit)} edits of run "
            f"{results.name!r} among its stimuli ({nearest('', names, most=3)}); expected file names as "
            "`nwb-migvis export-stimuli` writes them; give a CSV with the columns stimulus and file "
            "(--stimuli)"
        )
    return Showing(edit, real)


def _renamed(stimuli: str | Path | None) -> dict[str, str]:
    if stimuli is None:
        return {}
    needs = ("stimulus", "file")
    table = read_csv(stimuli, what="pictures", needs=needs, dtype=str, keep_default_na=False)
    again = table["stimulus"][table["stimulus"].duplicated()]
    if len(again):
        raise MigvisError(
            f"pictures {stimuli} has stimulus {again.iloc[0]!r} twice; expected each once: remove one row"
        )
    return dict(zip(table["stimulus"], table["file"], strict=True))


def _bare(name: str) -> str:
    """Return a file name without folders, and without the suffix of an image."""
    file = PurePosixPath(name.replace("\\", "/"))
    return file.stem if file.suffix.lower() in SUFFIXES else file.name


def picture_note(session: xr.Dataset, results: Results, shown: Showing) -> str | None:
    """Say how many edits look other than the run's in a session that holds its pixels; None for none."""
    if "image" not in session:
        return None
    rows = np.flatnonzero(shown.edit >= 0)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST_COMPARED)).astype(np.int64)]
    made = results.synthesized["image"].values[rows]
    measured = resize_images(session["image"].isel(stimulus=shown.edit[rows]).values, made.shape[1:3])
    gray = [x.astype(float).mean(axis=-1) if x.ndim == 4 else x.astype(float) for x in (made, measured)]
    differ = np.abs(gray[0] - gray[1]).mean(axis=(1, 2)) > MOST_DIFFERENCE
    if not differ.any():
        return None
    return (
        f"{int(differ.sum())} of {len(rows)} pictures that were compared differ from the run's edits by more "
        f"than {MOST_DIFFERENCE} gray levels on average: look whether the names belong to this run"
    )


def units_by_id(session: xr.Dataset, units: xr.Dataset) -> np.ndarray:
    """Return where a session has the units of a run, (unit,) int; -1 where it lacks one.

    Units are matched by id; where ids repeat, by id and electrode group.

    Raises
    ------
    MigvisError
        If nothing tells the units apart, or the session has none of them.
    """
    source = session.attrs.get("source", "the session")
    for names in (["unit"], ["unit", "electrode_group"]):
        if not all(name in each.coords for name in names for each in (session, units)):
            continue
        here, there = (_keys([each[name].values for name in names]) for each in (session, units))
        if here.is_unique and there.is_unique:
            break
    else:
        raise MigvisError(
            f"{source}: ids of units repeat, and electrode groups do not tell them apart; expected units "
            "that can be matched with the run's; match them by their responses (--match images)"
        )
    index = np.asarray(here.get_indexer(there))
    if (index < 0).all():
        raise MigvisError(
            f"{source}: found none of the run's {len(index)} units by id (it has {_some(here)}, the run "
            f"{_some(there)}); match them by their responses (--match images)"
        )
    return index


def _keys(columns: list[np.ndarray]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([[str(value) for value in column] for column in columns])


def _some(keys: Iterable[Any]) -> str:
    return ", ".join(" ".join(key) for key in list(keys)[:3]) + " ..."
