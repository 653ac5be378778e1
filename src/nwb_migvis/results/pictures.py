"""A run's pictures for another session: which are shown, what their files are called, what each should do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.results.gallery import edit_names, word

if TYPE_CHECKING:
    from nwb_migvis.results.record import Results

EDIT, CONTROL, REAL = "edit", "control", "real"
"""Kinds of pictures: edits by the method proper, by another one, and real images at the edits' size."""

PROPER = "pmi"
"""The method that is no control."""

COLUMNS = (
    "file",
    "kind",
    "group",
    "method",
    "role",
    "source",
    "target",
    "source_file",
    "target_file",
    "strength",
    "guidance",
    "gamma",
    "direction",
    "expected",
)
"""Columns of the list of pictures."""


def picture_table(results: Results, rows: np.ndarray) -> pd.DataFrame:
    """List pictures to be shown: edits, then the real images that they started from and aimed at.

    Parameters
    ----------
    results : Results
    rows : numpy.ndarray of int, shape (n_edits,)
        Of `results.synthesized`.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`; one row per picture. Real images have their stimulus in `source`.
    """
    edits = results.synthesized.isel(edit=rows)
    row_of = {str(name): row for row, name in enumerate(results.latents["stimulus"].values)}
    table = pd.DataFrame({"file": edit_files(results.synthesized, rows)})
    table["kind"] = np.where(edits["method"].values.astype(str) == PROPER, EDIT, CONTROL)
    for name in ("group", "method", "role", "source", "target", "strength", "guidance", "gamma", "direction"):
        table[name] = edits[name].values
    for end in ("source", "target"):
        table[f"{end}_file"] = [real_file(row_of[str(s)], str(s)) if s else "" for s in edits[end].values]
    table["expected"] = [_expected(edit) for edit in table.to_dict("records")]
    used = dict.fromkeys(str(s) for end in ("source", "target") for s in edits[end].values if s)
    stimuli = sorted(used, key=row_of.__getitem__)
    real = pd.DataFrame({"file": [real_file(row_of[s], s) for s in stimuli], "kind": REAL, "source": stimuli})
    real["expected"] = "a real image: as in the first session"
    both = pd.concat([table, real], ignore_index=True)[list(COLUMNS)]
    texts = [name for name in COLUMNS if name not in ("strength", "guidance", "gamma")]
    return both.fillna(dict.fromkeys(texts, ""))


def edit_files(edits: xr.Dataset, rows: np.ndarray) -> list[str]:
    """Return the file names of edits, which tell their rows."""
    return [f"{name}.png" for name in edit_names(edits, rows)]


def real_file(row: int, stimulus: str) -> str:
    """Return the file name of a stimulus at the edits' size."""
    return f"real_{row:06d}_{word(stimulus)}.png"


def chosen_edits(
    results: Results, *, max_pairs: int | None = None, **which: str | Sequence[str]
) -> np.ndarray:
    """Return rows of edits that fit all that is given.

    Parameters
    ----------
    results : Results
    max_pairs : int, optional
        Pairs of source and target per group, the first of the run's; all where it is None.
    **which
        `group`, `method` and `role`, as `Results.edits` takes them.

    Raises
    ------
    MigvisError
        If no edit fits, or as `Results.edits`.
    """
    edits = results.synthesized
    numbered = edits.assign_coords(row=("edit", np.arange(edits.sizes["edit"])))
    chosen = replace(results, synthesized=numbered).edits(**which)
    rows = chosen["row"].values.astype(np.int64)
    if max_pairs is not None:
        rank: dict[str, dict[tuple[str, ...], int]] = {}
        kept = []
        for row, group, *pair in zip(
            rows, *(chosen[name].values.tolist() for name in ("group", "source", "target")), strict=True
        ):
            own = rank.setdefault(group, {})
            if own.setdefault(tuple(pair), len(own)) < max_pairs:
                kept.append(row)
        rows = np.array(kept, dtype=np.int64)
    if not len(rows):
        asked = ", ".join(f"{name} = {value!r}" for name, value in which.items()) or "no choice"
        raise MigvisError(
            f"run {results.name!r}: found no edits to show ({asked}); expected some; run with images, or "
            "choose others"
        )
    return rows


def _expected(edit: Mapping[Any, Any]) -> str:
    """Say what responses to an edit should be, if it does what it was made for."""
    group, method, source, target = (edit[name] for name in ("group", "method", "source_file", "target_file"))
    if method == "none":
        return f"all latents as in {source}"
    if not target:
        how = f"{edit['gamma']:+g} SD along {edit['direction']}"
        return f"latents of {group} moved by {how}, the others as in {source}"
    if method == "shuffled":
        return f"latents of {group} no nearer to those of {target} than to any other image's"
    if method == "wrong-group":
        return f"latents of another group than {group} moved towards {target}"
    return f"latents of {group} as in {target}, the others as in {source}"
