"""Where results go, and every reason not to write them there, found before any work."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import Named, results_name
from nwb_migvis.sources import Source, as_source, require_zarr, size_of
from nwb_migvis.store.canonical import check_name
from nwb_migvis.store.content import check_content
from nwb_migvis.store.copying import check_writable
from nwb_migvis.store.decode import is_run, open_file, runs_in
from nwb_migvis.store.private import temporary_path

SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where the results of a session go.

    Parameters
    ----------
    out : path-like, optional
        The file to write; where it is None, a sibling of the source: `NAME_migvis.nwb`, or with
        `desc-migvis` in a name that the DANDI archive gave (`results_name`).
    in_place : bool
        Write the results back under the source's own path.
    overwrite : bool
        Allow an `out` that exists, and a run of the same name in the source, to be replaced.
    backup : bool
        In place, keep the source as a hard link `NAME.nwb.bak` (`.bak1`, ... where that is taken).
    replace_run : bool
        Allow a run of the same name in the source to be replaced, but no `out` that exists.
    results_only : bool
        Write the results into a small file of their own, with the session's description, subject and devices
        and without its recording.
    backend : {"hdf5", "zarr"}
        Of the output; with `zarr` it is a folder whose name ends in `.zarr`.

    Raises
    ------
    MigvisError
        If `in_place` is set and `out` given, or `results_only`, or a backend other than HDF5. If the backend
        is unknown, cannot be had here, or does not fit the name of `out`.
    """

    out: str | Path | None = None
    in_place: bool = False
    overwrite: bool = False
    backup: bool = True
    replace_run: bool = False
    results_only: bool = False
    backend: str = "hdf5"

    def __post_init__(self) -> None:
        if self.in_place and self.out is not None:
            raise MigvisError(
                f"found both in_place and out = {self.out}; expected one of them; omit the other"
            )
        if self.in_place and self.results_only:
            raise MigvisError(
                "found both in_place and results_only, which leaves the recording out; expected one of them; "
                "omit the other"
            )

        if self.backend not in ("hdf5", "zarr"):
            raise MigvisError(f"backend is {self.backend!r}; expected 'hdf5' or 'zarr'")
        is_folder = self.out is not None and Path(self.out).suffix == ".zarr"
        if self.is_folder:
            self._check_zarr(has_name=self.out is None or is_folder or Path(self.out).is_dir())
        elif is_folder:
            raise MigvisError(
                f"{self.out} is the name of a Zarr folder; expected a name ending in .nwb; give that, or "
                "--backend zarr (backend='zarr')"
            )

    def _check_zarr(self, *, has_name: bool) -> None:
        if self.in_place or self.overwrite:
            given = "in_place" if self.in_place else "overwrite"
            raise MigvisError(
                f"found {given} with the backend zarr: a folder is not replaced in one step; expected a new "
                "one; omit it, and give another --out or remove the old folder"
            )
        if not has_name:
            raise MigvisError(
                f"{self.out} is not the name of a Zarr folder; expected one ending in .nwb.zarr; give that"
            )
        require_zarr()

    @property
    def is_folder(self) -> bool:
        """Whether the output is a Zarr folder."""
        return self.backend == "zarr"

    def name(self, source: Named) -> str:
        """Return the name of the output of a source, where none is given."""
        return results_name(source) + (".zarr" if self.is_folder else "")

    @property
    def keeps_backup(self) -> bool:
        """Whether the source gets a second name."""
        return self.in_place and self.backup

    @property
    def replaces(self) -> bool:
        """Whether a file may be replaced."""
        return self.in_place or self.overwrite

    def path(self, source: Source) -> Path:
        """Return the file that is written for a source."""
        if self.in_place and isinstance(source, Path):
            return source
        return source.with_name(self.name(source)) if self.out is None else Path(self.out)


def check_destination(
    source: str | Source, *, name: str = "migvis", expected_bytes: int = 0, **where: Any
) -> Path:
    """Return the path that results will be written to, or refuse.

    The session is copied once on trial, and the copy removed: see `check_writable`.

    Parameters
    ----------
    source : path-like
        The session's NWB file.
    name : str
        Name of the run.
    expected_bytes : int
        Size of the results, besides that of the source and a spare of 64 MiB.
    **where
        As for `Destination`.

    Raises
    ------
    MigvisError
        If the source cannot be read or copied whole, or is open for writing elsewhere; if the destination
        exists, is a link, is the source itself, or lies in a folder that is absent, not writable, or short of
        space; if links out of the file would break there; if the name is taken or cannot name an object; in
        place, if the source is a symbolic link, is read-only, or is open in another process.
    """
    source, destination = as_source(source, what="source"), Destination(**where)
    path = destination.path(source)
    if path.is_file() and destination.replaces and _is_open_elsewhere(path):
        raise MigvisError(
            f"{path} is open in another process; expected a file that no one uses; close it there"
            f"{', or write another file with --out' if destination.in_place else ''}"
        )
    path = choose_destination(source, destination, name=name, expected_bytes=expected_bytes)
    if not destination.results_only and isinstance(source, Path):
        check_writable(source, beside=path)
    return path


def choose_destination(source: Source, destination: Destination, *, name: str, expected_bytes: int) -> Path:
    """Do as `check_destination`, but copy nothing, and allow other processes to read the destination.

    They keep the old file that they have open, so that finished results need not be thrown away.
    """
    check_name(name)
    path = destination.path(source)
    if not isinstance(source, Path) and not destination.results_only:
        raise MigvisError(
            f"{source} is not a file on this machine; expected one to copy; download it and give its path, "
            "or write the results alone (results_only)"
        )
    with open_file(source) as file:
        if isinstance(source, Path) and not destination.results_only:
            _check_run_name(file, source, name, destination.overwrite or destination.replace_run)
            check_content(file, source, is_moved=path.parent.resolve() != source.parent.resolve())
    if destination.in_place and isinstance(source, Path):
        _check_in_place(source)
    elif isinstance(source, Path) and path.exists() and path.samefile(source):
        raise MigvisError(f"{path} is the source itself; expected another file; use --in-place to write back")
    else:
        _check_new(path, destination.overwrite)
    _check_folder(path, hard_links=destination.keeps_backup)
    copied = 0 if destination.results_only else size_of(source)
    _check_space(path, copied + expected_bytes)
    return path


def check_new_file(destination: Path, *, overwrite: bool) -> None:
    """Refuse a path for a new file, which is made of no NWB file.

    Raises
    ------
    MigvisError
        If it exists, is a link, or lies in a folder that is absent or not writable.
    """
    _check_new(destination, overwrite)
    _check_folder(destination, hard_links=False)


def _check_in_place(source: Path) -> None:
    if source.is_symlink():
        raise MigvisError(
            f"{source} is a symbolic link to {source.resolve()}; expected the file itself to write in place; "
            "give its real path, or write another file with --out"
        )
    if not os.access(source, os.W_OK):
        raise MigvisError(f"{source} is read-only; expected a writable file; allow writing, or use --out")
    backups = [p for p in source.parent.iterdir() if p.name.startswith(f"{source.name}.bak")]
    others = source.stat().st_nlink - 1 - sum(is_same_link(p, source) for p in backups)
    if others > 0:
        raise MigvisError(
            f"{source} has {others} more names (hard links), which would keep the old content; "
            "expected one name; copy the file first, or write another file with --out"
        )


def is_same_link(path: Path, other: Path) -> bool:
    """Tell whether two paths are names of one file, neither of them a symbolic link."""
    try:
        return os.path.samestat(path.lstat(), other.lstat())
    except FileNotFoundError:
        return False


def _is_open_elsewhere(path: Path) -> bool:
    """Tell whether another process holds a lock on an HDF5 file (False where that cannot be told)."""
    try:
        import fcntl
    except ImportError:
        return False
    if _is_open_here(path):
        return False
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _is_open_here(path: Path) -> bool:
    """Tell whether this process has the file open: its own lock would look like another's."""
    status = path.stat()
    for descriptor in os.listdir("/dev/fd"):  # noqa: PTH208 - Path resolves what the entries lead to
        with contextlib.suppress(OSError):
            if os.path.samestat(status, os.fstat(int(descriptor))):
                return True
    return False


def _check_new(destination: Path, overwrite: bool) -> None:
    if destination.is_symlink():
        raise MigvisError(f"{destination} is a symbolic link; expected a new file; give another --out")
    if destination.is_dir() and destination.suffix != ".zarr":
        raise MigvisError(f"{destination} is a folder; expected the path of a file; add a file name to --out")
    if destination.exists() and not overwrite:
        raise MigvisError(
            f"{destination} exists already{_its_runs(destination)}; expected a new file; "
            "give another --out, --overwrite to replace it, or run on that file --in-place to add to it"
        )


def _its_runs(path: Path) -> str:
    if path.is_dir():
        return ""
    with contextlib.suppress(MigvisError, OSError), open_file(path) as file:
        names = runs_in(file)
        return f" (runs: {', '.join(names)})" if names else ""
    return ""


def _check_folder(destination: Path, *, hard_links: bool) -> None:
    folder = destination.parent
    if not folder.is_dir():
        raise MigvisError(
            f"{folder} is not a folder; expected one for {destination.name}; make it, or give another --out"
        )
    probe, second = temporary_path(destination), temporary_path(destination)
    try:
        probe.touch(0o600, exist_ok=False)
        if hard_links:
            os.link(probe, second)
    except OSError as error:
        what = "a folder with hard links for the backup" if probe.exists() else "a writable folder"
        raise MigvisError(
            f"{folder}: {error.strerror}; expected {what}; write elsewhere with --out"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            second.unlink(missing_ok=True)
            probe.unlink(missing_ok=True)


def _check_space(destination: Path, expected_bytes: int) -> None:
    needed = expected_bytes + SPARE_BYTES
    free = shutil.disk_usage(destination.parent).free
    if free < needed:
        raise MigvisError(
            f"{destination.parent}: found {free / 1e9:.2f} GB of free space; expected {needed / 1e9:.2f} GB "
            f"for {destination.name}; free some, or give another --out"
        )


def _check_run_name(file: h5py.File, source: Path, name: str, overwrite: bool) -> None:
    present = file.get(f"analysis/{name}")
    if present is None:
        return
    if not is_run(present):
        raise MigvisError(
            f"{source}: /analysis/{name} is there already and is not a run; expected a free name; "
            "give another --name"
        )
    if not overwrite:
        raise MigvisError(
            f"{source}: found a run {name!r} already (runs: {', '.join(runs_in(file))}); "
            "expected a new name; give another --name, or --overwrite to replace it"
        )
