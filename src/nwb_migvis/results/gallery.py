"""Some of a run's edits, for viewers that show images: which, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

N_IMAGES = 20
"""Images that are drawn. Each is an object, and takes a millisecond of the time of opening the file."""

MOST_IMAGES = 40
"""Images that a gallery may have."""

_MOST_CHARACTERS = 60
"""Of each part of a name."""


def gallery_of(edits: xr.Dataset, provenance: Mapping[str, Any]) -> xr.Dataset:
    """Return the edits of a gallery: at most 20, drawn by the run's seed.

    The groups take turns. Of each, edits of the method proper (`pmi`) are drawn at random, and controls where
    there are no others.

    Parameters
    ----------
    edits : xarray.Dataset
        As `Results.synthesized`.
    provenance : mapping
        As `Results.provenance`; its settings hold the seed (0 where they do not).

    Returns
    -------
    xarray.Dataset
        These edits in their order, with the coordinates `row` (of all edits) and `name`.
    """
    rows = _rows(edits, _seed(provenance))
    chosen = edits.isel(edit=rows)
    names = np.array(edit_names(edits, rows), dtype=str)
    return chosen.assign_coords(row=("edit", rows), name=("edit", names))


def edit_names(edits: xr.Dataset, rows: np.ndarray) -> list[str]:
    """Return names of edits that say row, group, source, target and strength, and sort by row."""
    columns = ("group", "source", "target", "direction", "gamma", "strength")
    made = zip(*(edits[name].values[rows].tolist() for name in columns), strict=True)
    return [_name(int(row), *how) for row, how in zip(rows, made, strict=True)]


def _seed(provenance: Mapping[str, Any]) -> int:
    config = provenance.get("config")
    seed = config.get("seed") if isinstance(config, Mapping) else None
    return seed if type(seed) is int and seed >= 0 else 0


def _rows(edits: xr.Dataset, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, MOST_IMAGES])
    group, is_proper = edits["group"].values.astype(str), edits["method"].values.astype(str) == "pmi"
    turns: list[tuple[int, int]] = []
    for name in dict.fromkeys(group.tolist()):
        own = np.flatnonzero((group == name) & is_proper)
        own = own if len(own) else np.flatnonzero(group == name)
        turns += list(enumerate(rng.permutation(own).tolist()))
    turns.sort(key=lambda turn: turn[0])
    return np.sort(np.array([row for _, row in turns[:N_IMAGES]], dtype=np.int64))


def _name(row: int, *how: Any) -> str:
    group, source, target, direction = map(word, how[:4])
    gamma, strength = how[4:]
    goal = f"to_{target}" if target else f"along_{direction}_{gamma:+g}"
    return f"{row:06d}_{group}_{source}_{goal}_{strength:.2f}"


def word(value: Any) -> str:
    """Return a value as a part of a file name."""
    return re.sub(r"[/:\s]+", "_", str(value))[:_MOST_CHARACTERS]
