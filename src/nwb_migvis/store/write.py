"""Writing of results into a copy of their session: nothing lost, and the new file whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results, no_presentations
from nwb_migvis.sources import RemoteFile, Source, as_source, folder_behind, local_file, state_of
from nwb_migvis.store.canonical import canonical
from nwb_migvis.store.copying import Job, make_file, sync
from nwb_migvis.store.decode import list_runs
from nwb_migvis.store.destination import Destination, check_destination, choose_destination, is_same_link
from nwb_migvis.store.folders import publish_folder
from nwb_migvis.store.private import reserve
from nwb_migvis.store.sidecar import read_sidecar, session_identifier, write_sidecar


def write_results(
    results: Results,
    *,
    source: str | Source,
    weights: Mapping[str, bytes] | None = None,
    unchanged_since: tuple[int, ...] | None = None,
    sidecar: bool = False,
    **where: Any,
) -> Path:
    """Write results into a copy of their session, or back into the session's own path.

    The source is opened for reading only. Its content and the results are exported, in a process of its own,
    to a new file in the destination's folder. The new file is validated, read again and compared with the
    source, object by object, and with the results; only then does it get its final name, in one step.

    Parameters
    ----------
    results : Results
    source : path-like
        The NWB file that the results are of; or its address, where only the results are written.
    weights : mapping of str to bytes, optional
        safetensors bytes of the networks, by name.
    unchanged_since : tuple of int, optional
        The source's `fingerprint` when it was read: a source that changed since is refused.
    sidecar : bool
        Keep results and weights in a file beside the output until that is written, so that they outlive a
        failure; `restore_sidecar` writes them later.
    **where
        As for `Destination`: `out`, `in_place`, `overwrite`, `backup`, `replace_run`, `results_only`,
        `backend`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    MigvisError
        As `check_destination`; if the source changed meanwhile; or if a copy of it would lose something.
        The message says where the sidecar is, if there is one.
    ValueError
        If the results are not of the form that `Results` describes.
    """
    results = canonical(results)
    weights = dict(weights or {})
    source, destination = as_source(source, what="source"), Destination(**where)
    if destination.results_only:
        results = without_unit_rows(results)
    if not sidecar:
        return _write(results, weights, source, destination, unchanged_since=unchanged_since)
    refuge = write_sidecar(results, weights, source=source, beside=destination.path(source))
    try:
        path = _write(results, weights, source, destination, unchanged_since=unchanged_since)
    except MigvisError as error:
        lost = "; the results could not be saved either, and are lost"
        saved = f"; the results are in {refuge}: `nwb-migvis recover {refuge} --source {source}` writes them"
        raise MigvisError(f"{error}{saved if refuge else lost}") from error
    if refuge:
        refuge.unlink(missing_ok=True)
    return path


def restore_sidecar(path: str | Path, *, source: str | Path, **where: Any) -> Path:
    """Write the results in a sidecar into a copy of their session. The sidecar stays.

    Parameters
    ----------
    path : path-like
        The sidecar.
    source : path-like
        The session's NWB file.
    **where
        As for `Destination`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    MigvisError
        As `read_sidecar` and `write_results`; if the session is another one.
    """
    results, weights, identifier = read_sidecar(path)
    source = local_file(source, what="source", why="its content is copied")
    check_destination(source, name=results.name, **where)
    present = session_identifier(source)
    if present != identifier:
        raise MigvisError(
            f"{source} has the identifier {present!r}; expected {identifier!r}, the session of {path}; give "
            "that file as --source"
        )
    return write_results(results, source=source, weights=weights, **where)


def _write(
    results: Results,
    weights: Mapping[str, bytes],
    source: Source,
    destination: Destination,
    *,
    unchanged_since: tuple[int, ...] | None,
) -> Path:
    size = sum(map(len, weights.values())) + results.synthesized.nbytes + results.latents.nbytes
    path = choose_destination(source, destination, name=results.name, expected_bytes=size)
    job = Job(source, path, results, weights, without_recording=destination.results_only)
    return _make(job, destination, unchanged_since=unchanged_since)


def _make(job: Job, destination: Destination, *, unchanged_since: tuple[int, ...] | None = None) -> Path:
    """Make the file of a job and give it its name, unless the source changes meanwhile."""
    source, path = job.source, job.output
    with reserve(path):
        before = fingerprint(source)
        if unchanged_since not in (None, before):
            raise MigvisError(
                f"{source} was changed since it was read; expected it at rest; nothing was written; run again"
            )

        def publish(temporary: Path) -> None:
            if fingerprint(source) != before:
                raise MigvisError(
                    f"{source} was changed while results were written; expected it at rest; run again"
                )
            if destination.is_folder:
                publish_folder(temporary, path, original=folder_behind(source))
            else:
                _publish(temporary, path, source, destination)

        make_file(job, publish)
    return path


def without_unit_rows(results: Results) -> Results:
    """Return results for a file without the tables that rows of units and presentations point into."""
    units = results.units.drop_vars("unit_row", errors="ignore")
    return replace(results, units=units, presentations=no_presentations())


def remove_run(path: str | Path, name: str, **where: Any) -> Path:
    """Write a copy of a file without one of its runs, or remove the run from the file itself.

    Parameters
    ----------
    path : path-like
    name : str
        The run.
    **where
        As for `Destination`: `out`, `in_place`, `overwrite`, `backup`.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    MigvisError
        If the file holds no run of that name, or as `write_results`.
    """
    source = local_file(path, what="file", why="it is copied without the run")
    destination = Destination(**where, replace_run=True)
    names = list_runs(source)
    if name not in names:
        raise MigvisError(
            f"{source}: found no run {name!r}; expected the name of a run in it "
            f"({', '.join(names) or 'it holds none'}); give that"
        )
    output = choose_destination(source, destination, name=name, expected_bytes=0)
    return _make(Job(source, output, removed=name), destination)


def _publish(temporary: Path, path: Path, source: Source, destination: Destination) -> None:
    """Give a file on the disk its final name, in one step, and the permissions that it should have."""
    if destination.in_place and isinstance(source, Path):
        _take_over(source, temporary)
    else:
        temporary.chmod(_mode(source, path))
    if destination.keeps_backup and isinstance(source, Path):
        _keep(source)
    if destination.replaces:
        temporary.replace(path)
    else:
        _name(temporary, path)
    sync(path.parent)


def _mode(source: Source, path: Path) -> int:
    """Return the permissions of an output: never more than the source grants, or the file it replaces."""
    allowed = (source.stat().st_mode if isinstance(source, Path) else 0o666) | 0o600
    allowed &= path.stat().st_mode if path.exists() else 0o666 & ~_umask()
    return allowed & 0o777 | 0o600


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _take_over(source: Path, temporary: Path) -> None:
    """Give a file the owner, permissions, extended attributes and times of another, where that is allowed."""
    status = source.stat()
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(temporary, status.st_uid, status.st_gid)
    shutil.copystat(source, temporary)  # permissions, times, and on Linux the extended attributes


def _name(temporary: Path, path: Path) -> None:
    """Give a file a name that no other has."""
    try:
        path.hardlink_to(temporary)
        temporary.unlink()
    except FileExistsError:
        raise MigvisError(f"{path} appeared meanwhile; expected a new file; give another --out") from None
    except OSError:  # no hard links here
        if path.exists() or path.is_symlink():
            raise MigvisError(f"{path} appeared meanwhile; expected a new file; give another --out") from None
        temporary.rename(path)


def fingerprint(path: Source) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to: device, inode, size, time of change.

    Of a file at an address it is size and state, asked anew. Take it before anything is read of the file.

    Raises
    ------
    MigvisError
        If there is no such file.
    """
    if isinstance(path, RemoteFile):
        return state_of(path)
    if not isinstance(path, Path):
        return (path.size,)
    try:
        status = path.stat()
    except FileNotFoundError:
        raise MigvisError(f"{path} does not exist; give the path of an NWB file") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _keep(source: Path) -> Path:
    """Give a file a second name, never one that another file or link has."""
    for number in itertools.count():
        backup = source.with_name(f"{source.name}.bak{number or ''}")
        with contextlib.suppress(FileExistsError):
            backup.hardlink_to(source)
            return backup
        if is_same_link(backup, source):
            return backup
    raise AssertionError("unreachable")
