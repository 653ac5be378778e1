"""Digests of what a run measured: they tell a table that was changed since from the one that was written."""

from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import xarray as xr

from nwb_migvis.results import Results
from nwb_migvis.store.gate import read_json

PARTS = (
    *("groups", "latents", "units", "labels", "synthesized", "selectivity", "decoding", "provenance"),
    "presentations",
)
TABLES = "tables"
"""Where the attribute `digests` of a run's model holds them."""
IS_DIGESTED = "tables_have_digests"
"""Key of the attribute `provenance` that says so: digests that were removed are no run of 0.1.0."""


def part_digests(results: Results) -> dict[str, str]:
    """Return the SHA-256 of each part of canonical results, of what it says and not of how it is stored.

    Names, dtypes, shapes and values in little-endian order enter, in the order of the names; text as UTF-8
    with its length. Parts without values have none.
    """
    digests = {}
    for part in PARTS:
        held = getattr(results, part)
        if part == "provenance":
            text = json.dumps(held, sort_keys=True, ensure_ascii=False)
            digests[part] = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
            continue
        dataset = xr.Dataset.from_dataframe(held) if part == "groups" else held
        if any(variable.size for variable in dataset.variables.values()):
            digests[part] = _digest(dataset)
    return digests | {f"analyses/{name}": _digest(data) for name, data in results.analyses.items()}


def changed_parts(group: h5py.Group, results: Results) -> list[str]:
    """Return the parts of a run that are not those that were written; none where no digest was recorded.

    Parameters
    ----------
    group : h5py.Group
        Of the run.
    results : Results
        What it holds.
    """
    model = group["model"]
    recorded = read_json(model, "digests").get(TABLES) if "digests" in model.attrs else None
    if recorded is None and not read_json(model, "provenance").get(IS_DIGESTED):
        return []
    if not isinstance(recorded, dict):
        return ["digests"]
    held = part_digests(results)
    return [part for part in sorted(recorded.keys() | held.keys()) if recorded.get(part) != held.get(part)]


def _digest(dataset: xr.Dataset) -> str:
    total = hashlib.sha256()
    for name in sorted(map(str, dataset.variables)):
        variable = dataset.variables[name]
        values = np.asarray(variable.values)
        attributes = sorted(variable.attrs.items())
        total.update(f"{name}\0{variable.dims}\0{values.shape}\0{attributes}\0".encode())
        if values.dtype.kind in "OU":
            for text in values.ravel():
                encoded = str(text).encode(errors="surrogatepass")
                total.update(f"{len(encoded)}\0".encode() + encoded)
        else:
            little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
            total.update(little.dtype.str.encode() + little.tobytes())
    return total.hexdigest()
