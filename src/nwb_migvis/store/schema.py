"""Whether a file follows the NWB schema; pynwb's loaded one is used where the file carries that."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import pynwb
from hdmf.validate import ValidatorMap
from pynwb import NWBHDF5IO, NWBFile

from nwb_migvis.store.decode import FAULTS

_Schema = Mapping[tuple[str, str], Mapping[str, bytes]]
"""Texts of specifications by name, of each namespace and version."""

_NOT_VALIDATED = "hdmf-experimental"
"""pynwb does not validate against it alone."""


def schema_errors(path: Path) -> list[Any]:
    """Return what `pynwb.validate(path=path)` returns.

    That reads and resolves the specifications that are cached in the file, which takes most of its time.
    Where they are, text by text, what pynwb writes of those that it has loaded, the loaded ones are used.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of hdmf.validate.errors.Error
    """
    cached = _cached_in(path)
    if not cached or not cached.items() <= _loaded(tuple(pynwb.available_namespaces())).items():
        return pynwb.validate(path=str(path))
    with NWBHDF5IO(path, "r", load_namespaces=False) as io:
        catalog, builder = io.manager.namespace_catalog, io.read_builder()
        names = {name for name, _ in cached}
        included = {part.get("namespace") for name in names for part in catalog.get_namespace(name)["schema"]}
        return [
            error
            for name in sorted(names - included - {_NOT_VALIDATED})
            for error in ValidatorMap(catalog.get_namespace(name)).validate(builder)
        ]


def _cached_in(path: Path) -> _Schema:
    """Return the specifications that a file carries; none where they are not of the usual form."""
    try:
        with h5py.File(path, "r") as file:
            return _specifications(file)
    except FAULTS:
        return {}


@lru_cache(maxsize=4)
def _loaded(namespaces: tuple[str, ...]) -> _Schema:
    """Return what pynwb writes into a new file of the namespaces that it has loaded."""
    with (
        h5py.File("loaded.nwb", "w", driver="core", backing_store=False) as file,
        NWBHDF5IO(file=file, mode="w") as io,
    ):
        io.write(NWBFile("Nothing.", "nothing", datetime.now(UTC)))
        return _specifications(file)


def _specifications(file: h5py.File) -> _Schema:
    group = file[file.attrs[".specloc"]]
    return {
        (name, version): {part: text[()] for part, text in texts.items()}
        for name, versions in group.items()
        for version, texts in versions.items()
    }
