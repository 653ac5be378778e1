"""Zarr folders with results: written from a checked HDF5 file, compared with it, and named in one step."""

from __future__ import annotations

import os
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.sources import (
    ZarrFolder,
    as_source,
    copy_to_hdf5,
    copy_to_zarr,
    keep_layout,
    schema_errors,
)
from nwb_migvis.store.copying import check_nothing_lost, sync
from nwb_migvis.store.private import remove_temporary, temporary_path


def publish_folder(file: Path, path: Path, *, original: ZarrFolder | None = None) -> None:
    """Write a checked file as a Zarr folder, whole or not at all.

    The folder is made under a temporary name, validated, read again and compared with the file, object by
    object; only then it gets its name.

    Parameters
    ----------
    file : Path
        NWB file in HDF5, beside `path`.
    path : Path
        Must not exist.
    original : ZarrFolder, optional
        What the session of the file was read from: its arrays keep their chunks and codecs.

    Raises
    ------
    MigvisError
        If the folder would not be valid or would lose something, or `path` exists by now.
    """
    folder, back = temporary_path(path), temporary_path(path)
    try:
        copy_to_zarr(file, folder)
        if original is not None:
            keep_layout(original, folder)
        wrong = schema_errors(folder)
        if wrong:
            raise MigvisError(f"{path}: the Zarr folder would not be valid ({wrong[0]}); nothing was written")
        written = as_source(folder, what="folder")
        if not isinstance(written, ZarrFolder):
            raise RuntimeError(f"{folder} was not written as an NWB folder")
        copy_to_hdf5(written, back)
        check_nothing_lost(file, back)
        os.sync()
        if os.path.lexists(path):
            raise MigvisError(f"{path} appeared meanwhile; expected a new folder; give another --out")
        folder.chmod(0o755)
        folder.rename(path)
        sync(path.parent)
    finally:
        remove_temporary(folder)
        remove_temporary(back)
