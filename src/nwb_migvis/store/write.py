"""Results into an NWB file: the output appears whole or not at all, and nothing of the source is altered."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path

import h5py
from hdmf.build.errors import ConstructError
from pynwb import NWBHDF5IO, NWBFile, get_manager

from nwb_migvis.errors import MigvisError
from nwb_migvis.extension import NAMESPACE
from nwb_migvis.results import Results
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.compare import lost_or_altered
from nwb_migvis.store.decode import decode, weights_in
from nwb_migvis.store.destination import choose_destination, sweep_temporary_files, temporary_path
from nwb_migvis.store.encode import encode
from nwb_migvis.store.validate import quiet_libraries, schema_findings


def write_results(
    results: Results,
    *,
    source: str | Path,
    out: str | Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    weights: Mapping[str, bytes] | None = None,
    backup: bool = True,
    unchanged_since: tuple[int, ...] | None = None,
    replace_run: bool = False,
) -> Path:
    """Write results into a copy of their session, or back into the session's own path.

    The source is opened for reading only. Its content and the results are exported to a temporary file in
    the destination's folder, which is validated, read again and compared with the source, object by object,
    and with the results; only then does it get its final name, in one step.

    Parameters
    ----------
    results : Results
    source : path-like
        The NWB file that the results are of.
    out : path-like, optional
        The file to write; a sibling `NAME_migvis.nwb` of the source where it is None.
    in_place : bool
        Give the new file the source's own path.
    overwrite : bool
        Replace an `out` that exists, and a run of the same name in the source.
    weights : mapping of str to bytes, optional
        safetensors bytes of the networks, by name.
    backup : bool
        In place, keep the source as a hard link `NAME.nwb.bak` (`.bak1`, ... where that is taken).
    unchanged_since : tuple of int, optional
        The source's `fingerprint` when it was read: a source that changed since is refused.
    replace_run : bool
        Replace a run of the same name in the source, but no `out` that exists.

    Returns
    -------
    Path
        The file that was written.

    Raises
    ------
    MigvisError
        As `check_destination`; if the source changed meanwhile; or if a copy of it would lose something.
    ValueError
        If the results are not of the form that `Results` describes.
    """
    results = canonical(results)
    weights = dict(weights or {})
    source = Path(source)
    size = sum(map(len, weights.values())) + results.synthesized.nbytes + results.latents.nbytes
    destination = choose_destination(
        source,
        out=out,
        in_place=in_place,
        overwrite=overwrite,
        name=results.name,
        backup=backup,
        expected_bytes=size,
        replace_run=replace_run,
    )
    sweep_temporary_files(destination.parent)
    before = fingerprint(source)
    if unchanged_since not in (None, before):
        raise MigvisError(
            f"{source} was changed since it was read; expected it at rest; nothing was written; run again"
        )
    temporary = temporary_path(destination)
    try:
        with quiet_libraries():
            _export(source, temporary, results, weights)
            _verify(source, temporary, results, weights)
        _sync(temporary)
        if fingerprint(source) != before:
            raise MigvisError(
                f"{source} was changed while results were written; expected it at rest; run again"
            )
        if destination.exists() and not (in_place or overwrite):
            raise MigvisError(f"{destination} appeared meanwhile; expected a new file; give another --out")
        _publish(temporary, destination, backup=in_place and backup)
    except OSError as error:
        raise MigvisError(
            f"{destination} could not be written: {error}; expected a source that can be read and a "
            "disk with space; mend that and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return destination


def _publish(temporary: Path, destination: Path, *, backup: bool) -> None:
    """Give a file on the disk its final name, in one step."""
    if destination.exists():
        temporary.chmod(destination.stat().st_mode & 0o7777)
    if backup:
        _keep(destination)
    temporary.replace(destination)
    _sync(destination.parent)


def _export(source: Path, temporary: Path, results: Results, weights: Mapping[str, bytes]) -> None:
    with NWBHDF5IO(source, "r") as reading:
        if NAMESPACE not in reading.manager.namespace_catalog.namespaces:
            raise RuntimeError(
                f"{NAMESPACE} is not registered with pynwb: the results would be written empty"
            )
        nwbfile = _read(reading, source)
        if results.name in nwbfile.analysis:
            nwbfile.analysis.pop(results.name)
        nwbfile.add_analysis(encode(results, nwbfile=nwbfile, weights=weights))
        _say_by_what(nwbfile)
        nwbfile.set_modified()
        with NWBHDF5IO(temporary, "w") as writing:
            writing.export(src_io=reading, nwbfile=nwbfile)


def _read(reading: NWBHDF5IO, source: Path) -> NWBFile:
    try:
        return reading.read()
    except (ConstructError, KeyError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MigvisError(
            f"{source}: pynwb cannot read the file ({reason}); expected one that it reads whole; "
            "nothing was written"
        ) from error


def _say_by_what(nwbfile: NWBFile) -> None:
    """Name this software in the file, where it names none: what is there already stays as it is."""
    if nwbfile.was_generated_by is None:
        nwbfile.was_generated_by = [["nwb-migvis", version("nwb-migvis")]]


def _verify(source: Path, temporary: Path, results: Results, weights: Mapping[str, bytes]) -> None:
    """Check that a new file is valid, lost nothing of the source, and holds the results."""
    where = f"/analysis/{results.name}"
    for finding in schema_findings(temporary, unlike=source):
        if finding.location.startswith(where):
            raise RuntimeError(f"written otherwise than the schema says: {finding}")
        raise MigvisError(
            f"{source}: a copy by pynwb would not be valid ({finding.location}: {finding.message}); "
            "expected a file of a schema that pynwb can bring up to date; nothing was written"
        )
    check_nothing_lost(source, temporary, skip={where})
    with h5py.File(temporary, "r") as new:
        wrong = differences(results, decode(new[where]))
        if {n: d[()].tobytes() for n, d in weights_in(new[where])} != dict(weights):
            wrong.append("weights")
    if wrong:
        raise RuntimeError(f"{temporary}: read back otherwise than written: {', '.join(wrong)}")


def check_nothing_lost(source: Path, copy: Path, *, skip: Collection[str] = ()) -> None:
    """Check that a copy of an NWB file holds everything that the file does, but for the paths to skip.

    Raises
    ------
    MigvisError
        Naming the first object that is absent or differs.
    """
    with h5py.File(source, "r") as old, h5py.File(copy, "r") as new:
        lost = list(lost_or_altered(old, new, skip=skip, is_subtype=_is_subtype))
    if lost:
        raise MigvisError(
            f"{source}: a copy by pynwb would not keep everything ({len(lost)} differences, the first: "
            f"{lost[0]}); expected a file that pynwb copies as it is; nothing was written"
        )


def _is_subtype(old: tuple[str, str], new: tuple[str, str]) -> bool:
    """Tell whether the type `new` (namespace, name) of the schema in use extends the type named `old`."""
    catalog = get_manager().type_map.namespace_catalog
    try:
        return old[1] in catalog.get_hierarchy(*new)
    except (KeyError, ValueError):
        return False


def fingerprint(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to: device, inode, size, time of change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _keep(source: Path) -> Path:
    """Give a file a second name, never one that another file has."""
    for number in itertools.count():
        backup = source.with_name(f"{source.name}.bak{number or ''}")
        with contextlib.suppress(FileExistsError):
            backup.hardlink_to(source)
            return backup
        if backup.samefile(source):
            return backup
    raise AssertionError("unreachable")


def _sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk (not a folder's on Windows, which cannot)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
