"""Sessions in Zarr folders: read through a copy in HDF5, and written from one."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json

_MOST_BYTES = 2**24
"""Of metadata of a folder."""


@dataclass(frozen=True)
class ZarrFolder:
    """An NWB session in a Zarr folder.

    Attributes
    ----------
    path : Path
    state : tuple of int
        Number of its files, their bytes, and when the last was changed: another folder's copy is not read.
    called : str
        Its name in messages, where that is not the path.
    """

    path: Path
    state: tuple[int, int, int]
    called: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.called or str(self.path)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def stem(self) -> str:
        """Name of the folder without its endings."""
        return self.name.removesuffix(".zarr").removesuffix(".nwb")

    def with_name(self, name: str) -> Path:
        """Return the path of an output beside the folder."""
        return self.path.with_name(name)

    @property
    def size(self) -> int:
        """Bytes of the copy that is read."""
        return hdf5_of(self).stat().st_size

    def provenance(self) -> dict[str, str]:
        """Return what a run records of the folder: its name, and the digest of its files by name."""
        digest = hashlib.sha256()
        for file in _files(self.path):
            digest.update(f"{file.relative_to(self.path).as_posix()}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
        return {"path": self.name, "sha256": digest.hexdigest()}


def zarr_folder(path: Path, *, called: str = "") -> ZarrFolder | None:
    """Return the session that a folder holds, None where it is no NWB file in Zarr.

    Messages name it as `called` says, where that is given.
    """
    if not path.is_dir():
        return None
    attributes = read_json(path / "zarr.json").get("attributes") or read_json(path / ".zattrs")
    if not isinstance(attributes, dict) or attributes.get("neurodata_type") != "NWBFile":
        return None
    states = [file.stat() for file in _files(path)]
    return ZarrFolder(
        path,
        (len(states), sum(s.st_size for s in states), max(s.st_mtime_ns for s in states)),
        called,
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def read_json(path: Path) -> Json:
    """Return a JSON object in a file; an empty one where there is none."""
    with contextlib.suppress(OSError, ValueError):
        if path.stat().st_size <= _MOST_BYTES:
            about = json.loads(path.read_bytes())
            return about if isinstance(about, dict) else {}
    return {}


def require_zarr() -> None:
    """Raise `MigvisError` unless folders can be read and written here."""
    if find_spec("hdmf_zarr") is not None and sys.version_info >= (3, 12):
        return
    python = "" if sys.version_info >= (3, 12) else f" (here is {sys.version_info[0]}.{sys.version_info[1]})"
    raise MigvisError(
        f"Zarr folders need the extra 'zarr', and that Python 3.12 or newer{python}: pip install "
        "'nwb-migvis[zarr]'; or convert the folder to HDF5 with hdmf-zarr"
    )


_copies: dict[ZarrFolder, Path] = {}
"""Folders that were read, and their copies."""


_folders: dict[Path, ZarrFolder] = {}
"""Copies in HDF5 that were made here, and the folders that they are of."""


def folder_behind(file: object) -> ZarrFolder | None:
    """Return the folder that a file is a copy of, made in this process; None for other files."""
    return _folders.get(file) if isinstance(file, Path) else None


def hdf5_of(folder: ZarrFolder) -> Path:
    """Return a copy of a folder as an HDF5 file, made once and removed when the process ends.

    Raises
    ------
    MigvisError
        If the folder cannot be read, or holds pickled objects.
    """
    if folder not in _copies or not _copies[folder].exists():
        private = Path(tempfile.mkdtemp(prefix="nwb-migvis-"))
        atexit.register(shutil.rmtree, private, ignore_errors=True)
        copy = private / f"{folder.stem}.nwb"
        copy_to_hdf5(folder, copy)
        _copies[folder] = copy
    return _copies[folder]


def copy_to_hdf5(folder: ZarrFolder, path: Path) -> None:
    """Write an NWB folder as a new HDF5 file.

    Raises
    ------
    MigvisError
        As `hdf5_of`.
    """
    require_zarr()
    check_plain(folder)
    check_whole(folder)
    _folders[path] = folder
    from hdmf_zarr import NWBZarrIO
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with NWBZarrIO(str(folder.path), mode="r") as reading, NWBHDF5IO(path, "w") as writing:
                writing.export(src_io=reading, nwbfile=reading.read(), write_args={"link_data": False})
        except Exception as error:  # the libraries raise nearly anything for what they do not expect
            path.unlink(missing_ok=True)
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise MigvisError(
                f"{folder} cannot be read ({type(error).__name__}: {reason}); expected an NWB folder that "
                "hdmf-zarr reads whole; get a whole copy of it"
            ) from error


def copy_to_zarr(file: Path, folder: Path) -> None:
    """Write an NWB file in HDF5 as a new Zarr folder.

    Raises
    ------
    OSError
        If the disk is full.
    """
    require_zarr()
    from hdmf_zarr import NWBZarrIO
    from pynwb import NWBHDF5IO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBHDF5IO(file, "r") as reading, NWBZarrIO(str(folder), mode="w") as writing:
            writing.export(src_io=reading, nwbfile=reading.read(), write_args={"link_data": False})


def keep_layout(original: ZarrFolder, folder: Path) -> list[str]:
    """Give arrays of a copy the chunks, shards and codecs that they have in the original, by its own files.

    Parameters
    ----------
    original : ZarrFolder
        Of Zarr 3.
    folder : Path
        A copy that went through HDF5. Arrays whose shape or type is another, such as one that gained rows,
        stay as they are there.

    Returns
    -------
    list of str
        Paths of the arrays that were replaced.
    """
    import zarr

    kept = []
    for file in sorted(original.path.rglob("zarr.json")):
        place = file.parent.relative_to(original.path)
        old, new = read_json(file), read_json(folder / place / "zarr.json")
        alike = all(old.get(key) == new.get(key) for key in ("node_type", "shape", "data_type"))
        if old.get("node_type") != "array" or not alike:
            continue
        shutil.rmtree(folder / place)
        shutil.copytree(file.parent, folder / place)
        about = {**old, "attributes": new.get("attributes", {})}
        (folder / place / "zarr.json").write_text(json.dumps(about, indent=2))
        kept.append(f"/{place.as_posix()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata are no part of Zarr 3 yet
        zarr.consolidate_metadata(folder)
    return kept


def schema_errors(folder: Path) -> list[str]:
    """Return what `pynwb.validate` finds in a folder."""
    import pynwb
    from hdmf_zarr import NWBZarrIO

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with NWBZarrIO(str(folder), mode="r") as reading:
            return [f"{error.location}: {error.reason}" for error in pynwb.validate(io=reading)]


def check_plain(folder: ZarrFolder) -> None:
    """Refuse a folder of Zarr 2 that keeps objects as pickles: reading one can execute what it holds."""
    for path in folder.path.rglob(".zarray"):
        filters = read_json(path).get("filters") or []
        if any(isinstance(one, dict) and one.get("id") == "pickle" for one in filters):
            place = path.parent.relative_to(folder.path).as_posix()
            raise MigvisError(
                f"{folder}: /{place} is stored as pickles (Zarr 2), which can execute code; expected a "
                "folder of Zarr 3; if you trust it, write it anew with hdmf-zarr 0.14, or get it as HDF5"
            )


def check_whole(folder: ZarrFolder) -> None:
    """Refuse a folder that lacks an object which its own list of them names: Zarr would read it as empty."""
    listed = read_json(folder.path / "zarr.json").get("consolidated_metadata") or {}
    for place in listed.get("metadata") or {}:
        if not (folder.path / place / "zarr.json").is_file():
            raise MigvisError(
                f"{folder} is damaged: /{place} is absent, which its zarr.json lists; get a whole copy of it"
            )
