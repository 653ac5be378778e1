"""Copies of a session by pynwb, with results or without, made apart and checked against their source."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.build import GroupBuilder
from hdmf.build.errors import ConstructError
from pynwb import NWBHDF5IO, NWBFile, get_manager

from ndx_migvis import NAMESPACE, MigvisRun
from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results
from nwb_migvis.sources import RemoteFile, RemoteFolder, Source, open_hdf5
from nwb_migvis.store.apart import done_apart, reason_of, run_apart
from nwb_migvis.store.apart_file import file_apart
from nwb_migvis.store.canonical import differences
from nwb_migvis.store.compare import Rules, lost_or_altered
from nwb_migvis.store.compressed import ImagesToCome, write_chunks
from nwb_migvis.store.dates import keep_spelling
from nwb_migvis.store.decode import decode, weights_in
from nwb_migvis.store.encode import encode
from nwb_migvis.store.private import sweep_temporary_files, temporary_path
from nwb_migvis.store.validate import quiet_libraries, schema_findings

GENERATED_BY = "/general/was_generated_by"
"""Names and versions of the software that made a file; ours is added."""

_BULK_BYTES = 2**20
"""On trial, larger datasets of numbers are copied but not compared: HDF5 copies them as they are."""


@dataclass(frozen=True)
class Job:
    """One file to write: the session, and, unless it is a trial, results and weights to add.

    With `without_recording` the results are all that is written of the session. `removed` is a run that the
    copy omits.
    """

    source: Source
    output: Path
    results: Results | None = None
    weights: Mapping[str, bytes] = field(default_factory=dict)
    without_recording: bool = False
    removed: str | None = None

    @property
    def file(self) -> Path:
        """The source, which is a file on this machine where it is copied."""
        assert isinstance(self.source, Path)
        return self.source


def check_writable(source: str | Path, *, beside: Path) -> None:
    """Refuse a session that cannot be copied whole, by copying it on trial.

    Parameters
    ----------
    source : path-like
        NWB file.
    beside : Path
        Where the output will be; the copy is made in a private folder there, and removed.

    Raises
    ------
    MigvisError
        If pynwb cannot read or copy the file, or the copy would not be valid or would lose something.
    """
    source = Path(source)
    make_file(Job(source, beside), lambda _: None)


def make_file(job: Job, finish: Callable[[Path], None]) -> None:
    """Export to a new file beside `job.output`, check it, and hand its path to `finish`.

    The file is beside the output, so that relative links in it hold. It has a name that nobody could know, is
    made by opening what must not exist, is readable by this user alone, and is never opened for writing
    again: no link that somebody else planted is followed.
    """
    path = job.output
    temporary = temporary_path(path)
    try:
        sweep_temporary_files(path.parent)
        new = replace(job, output=temporary)
        run_apart(lambda: _export_and_verify(new))
        finish(temporary)
    except OSError as error:
        raise MigvisError(
            f"{path} could not be written: {reason_of(error)}; expected a source that can be read and a "
            "disk with space; fix that and run again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _export_and_verify(job: Job) -> None:
    umask = os.umask(0o077)
    try:
        with quiet_libraries():
            _export(job)
            _verify(job)
    finally:
        os.umask(umask)
    sync(job.output)


@contextmanager
def _reading(source: Source) -> Iterator[NWBHDF5IO]:
    """Open a session by pynwb."""
    if isinstance(source, Path):
        with NWBHDF5IO(source, "r") as io:
            yield io
        return
    with open_hdf5(source) as file, NWBHDF5IO(file=file, mode="r") as io:
        yield io


def _export(job: Job) -> None:
    with _reading(job.source) as reading, ImagesToCome() as images:
        if NAMESPACE not in reading.manager.namespace_catalog.namespaces:
            raise RuntimeError(
                f"{NAMESPACE} is not registered with pynwb: the results would be written empty"
            )
        nwbfile = _by_pynwb(reading.read, "read", job.source)
        if job.without_recording:
            _by_pynwb(lambda: _write_apart(job, nwbfile, images), "read", job.source)
            return
        run = None
        if job.removed is not None:
            nwbfile.analysis.pop(job.removed)
        if job.results is not None:
            if job.results.name in nwbfile.analysis:
                nwbfile.analysis.pop(job.results.name)
            run = encode(job.results, nwbfile=nwbfile, weights=job.weights, images=images)
            nwbfile.add_analysis(run)
            _say_by_what(nwbfile)
        nwbfile.set_modified()
        if job.results is None and job.removed is None:
            builder = _by_pynwb(lambda: _built(reading.manager, nwbfile, job.file), "copy", job.source)
            _check_built(builder, job.file)

        def export() -> None:
            with h5py.File(job.output, "x") as file, NWBHDF5IO(file=file, mode="w") as writing:
                writing.export(src_io=reading, nwbfile=nwbfile)
                if run is not None:
                    _write_images(run, file)
                keep_spelling(job.file, file)

        _by_pynwb(export, "copy", job.source)


def _write_apart(job: Job, source: NWBFile, images: ImagesToCome) -> None:
    nwbfile = file_apart(source, results_of=_home_of(job.source))
    assert job.results is not None
    run = encode(job.results, nwbfile=nwbfile, weights=job.weights, images=images)
    nwbfile.add_analysis(run)
    _say_by_what(nwbfile)
    with h5py.File(job.output, "x") as file, NWBHDF5IO(file=file, mode="w") as writing:
        writing.write(nwbfile)
        _write_images(run, file)


def _write_images(run: MigvisRun, file: h5py.File) -> None:
    """Write the images of a run into the datasets that were made for them."""
    if run.synthesized_images is None:
        return
    for column in run.synthesized_images.columns:
        if isinstance(column.data, H5DataIO):
            write_chunks(column.data, file[f"/analysis/{run.name}/synthesized_images/{column.name}"])


def _home_of(source: Source) -> str:
    """Return where the recording is: the name of its file, or its address."""
    if isinstance(source, RemoteFile | RemoteFolder):
        return source.provenance()["address"]
    return source.name


def _built(manager: Any, nwbfile: NWBFile, source: Path) -> GroupBuilder:
    """Return what an export writes of a file: it builds the same, and takes this where nothing changes."""
    manager.purge_outdated()
    return manager.build(nwbfile, source=str(source), root=True, export=True)


def _check_built(builder: GroupBuilder, source: Path) -> None:
    """Refuse a file some of whose objects an export leaves out, before anything is copied.

    Raises
    ------
    MigvisError
        Naming the first.
    """
    with h5py.File(source, "r") as file:
        absent = sorted(_not_built(file["/"], builder))
    if absent:
        raise MigvisError(_not_kept(source, [f"{path} is absent" for path in absent]))


def _not_built(group: h5py.Group, builder: GroupBuilder) -> Iterator[str]:
    """Yield the objects below a group, and the attributes of it and of groups below, that are not built."""
    for name in group.attrs:
        if name not in builder.attributes and name != ".specloc":
            yield f"{group.name}@{name}"
    for name in group:
        path = f"{group.name.rstrip('/')}/{name}"
        if path == "/specifications":
            continue
        if name not in builder:
            yield path
        elif name in builder.groups and isinstance(item := group[name], h5py.Group):
            yield from _not_built(item, builder.groups[name])


def _by_pynwb(step: Callable[[], Any], what: str, source: Source) -> Any:
    """Do a step of pynwb; what it cannot do is due to the source, or to the disk."""
    try:
        return step()
    except (MigvisError, OSError, MemoryError):
        raise
    except RuntimeError as error:
        if "errno" in str(error):  # HDF5 says so when it cannot close a file on a full disk
            raise OSError(str(error)) from error
        raise MigvisError(_why_not(what, source, error)) from error
    except Exception as error:  # pynwb and hdmf raise nearly anything for what they do not expect
        raise MigvisError(_why_not(what, source, error)) from error


def _why_not(what: str, source: Source, error: Exception) -> str:
    text = str(error.args[-1]) if isinstance(error, ConstructError) else str(error)
    reason = " ".join(text.split())[:300] or type(error).__name__
    return (
        f"{source}: pynwb cannot {what} the file ({reason}); expected one that it reads and copies whole; "
        "nothing was written"
    )


def _say_by_what(nwbfile: NWBFile) -> None:
    """Name this software in the file, after any that it names already."""
    own = ["nwb-migvis", version("nwb-migvis")]
    present = nwbfile.was_generated_by
    rows = [] if present is None else np.asarray(present[:]).tolist()
    if own not in rows:
        nwbfile.fields["was_generated_by"] = [*rows, own]


def _verify(job: Job) -> None:
    """Check that a new file is valid, lost nothing of the source, and holds the results."""
    copy, results = job.output, job.results
    if results is None:
        _check_valid(job)
        if job.removed is None:
            check_nothing_lost(job.file, copy, most_bytes=_BULK_BYTES)
        else:
            check_nothing_lost(job.file, copy, skip={f"/analysis/{job.removed}"})
        return
    # HDF5 does one thing at a time in a process, so that the rest is looked at in another meanwhile.
    with done_apart(partial(_check_rest, job)), h5py.File(copy, "r") as new:
        group = new[f"/analysis/{results.name}"]
        wrong = differences(results, decode(group))
        if {name: data[()].tobytes() for name, data in weights_in(group)} != dict(job.weights):
            wrong.append("weights")
    if wrong:
        raise RuntimeError(f"{copy}: read back otherwise than written: {', '.join(wrong)}")


def _check_rest(job: Job) -> None:
    """Check that a file with results is valid, and that beside them it lost nothing of the source."""
    assert job.results is not None
    _check_valid(job)
    if not job.without_recording:
        own = {f"/analysis/{job.results.name}"}
        check_nothing_lost(job.file, job.output, skip=own, may_grow={GENERATED_BY})


def _check_valid(job: Job) -> None:
    """Check that a new file is valid by the schema."""
    copy = job.output
    where = f"/analysis/{job.results.name}" if job.results else None
    for finding in schema_findings(copy, unlike=None if job.without_recording else job.file):
        if where and finding.location.startswith(where):
            raise RuntimeError(f"written otherwise than the schema says: {finding}")
        raise MigvisError(
            f"{job.source}: a copy by pynwb would not be valid ({finding.location}: {finding.message}); "
            "expected a file of a schema that pynwb can bring up to date; nothing was written"
        )


def check_nothing_lost(
    source: Path,
    copy: Path,
    *,
    skip: Collection[str] = (),
    may_grow: Collection[str] = (),
    most_bytes: int | None = None,
) -> None:
    """Check that a copy of an NWB file holds everything that the file does.

    Parameters
    ----------
    source, copy : Path
    skip : collection of str
        Paths in the file that are not compared.
    may_grow : collection of str
        Datasets to which the copy may add rows.
    most_bytes : int, optional
        Of larger datasets of numbers only shape and type are compared.

    Raises
    ------
    MigvisError
        Naming the first object that is absent or differs.
    """
    with h5py.File(source, "r") as old, h5py.File(copy, "r") as new:
        rules = Rules(_is_subtype, skip=skip, may_grow=may_grow, most_bytes=most_bytes)
        lines = list(lost_or_altered(old, new, rules))
    if lines:
        raise MigvisError(_not_kept(source, lines))


def _not_kept(source: Path, lines: Sequence[str]) -> str:
    return (
        f"{source}: a copy by pynwb would not keep everything ({len(lines)} differences, the first: "
        f"{lines[0]}); expected a file that pynwb copies as it is; nothing was written"
    )


def _is_subtype(old: tuple[str, str], new: tuple[str, str]) -> bool:
    """Return whether the type `new` (namespace, name) of the schema in use extends the type named `old`."""
    catalog = get_manager().type_map.namespace_catalog
    try:
        return old[1] in catalog.get_hierarchy(*new)
    except (KeyError, ValueError):
        return False


def sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk (not a folder's on Windows, which cannot)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
