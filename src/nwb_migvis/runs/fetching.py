"""Sessions at addresses and in Zarr folders, fetched whole as HDF5 where their content is copied."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.sources import (
    OpenFile,
    RemoteFile,
    RemoteFolder,
    Source,
    ZarrFolder,
    as_source,
    copy_to_hdf5,
    download,
    zarr_of,
)
from nwb_migvis.store import (
    SPARE_BYTES,
    Destination,
    check_new_file,
    remove_temporary,
    sweep_temporary_files,
    temporary_path,
)

Elsewhere = RemoteFile | RemoteFolder | ZarrFolder
"""What is copied before a run can copy it: at an address, or a folder."""


@dataclass(frozen=True)
class Fetched:
    """Sessions as a run reads them, and where it writes.

    Attributes
    ----------
    sources : list of source
        Files on this machine; at addresses only where nothing but the results is written.
    destination : Destination
    addresses : mapping of Path to RemoteFile, RemoteFolder or ZarrFolder
        What was fetched, or copied.
    """

    sources: Sequence[Source]
    destination: Destination
    addresses: Mapping[Path, Elsewhere] = field(default_factory=dict)


@contextmanager
def fetched(sources: Sequence[Source], destination: Destination) -> Iterator[Fetched]:
    """Yield sessions as a run can copy them.

    Those at addresses are fetched into a private folder beside the output, which is removed afterwards; Zarr
    folders are copied there as HDF5. Without an `out`, results of what is at an address go into the current
    folder.

    Raises
    ------
    MigvisError
        For an open file, a session at an address that is to be written in place, an output that cannot be
        written, or a connection that is lost.
    """
    remote = [source for source in sources if isinstance(source, Elsewhere)]
    for source in sources:
        if isinstance(source, OpenFile):
            raise MigvisError(
                f"{source} is an open file; expected a path or an address, for a run may copy the session; "
                "give that, or use Study(read_session(file))"
            )
    if not remote or destination.results_only:
        if remote and len(sources) > 1 and destination.out is None:
            destination = replace(destination, out=".")
        yield Fetched(sources, destination)
        return
    if destination.in_place:
        raise MigvisError(
            f"{remote[0]} is at an address, or a folder; expected an HDF5 file here to write in place; "
            "give --out FILE, or omit --in-place"
        )
    if len(sources) > 1:
        destination = replace(destination, out=destination.out or ".")
        folder = Path(str(destination.out))
    else:
        out = Path(destination.path(remote[0]))
        destination = replace(destination, out=out)
        check_new_file(out, overwrite=destination.replaces)
        folder = out.parent
    with ExitStack() as stack:
        files = [_fetch(s, folder, stack) if isinstance(s, Elsewhere) else s for s in sources]
        pairs = zip(files, sources, strict=True)
        addresses = {file: s for file, s in pairs if isinstance(file, Path) and isinstance(s, Elsewhere)}
        try:
            yield Fetched(files, destination, addresses)
        except MigvisError as error:
            text = str(error)
            for file, source in addresses.items():
                text = text.replace(str(file), str(source))
            raise MigvisError(text) from error


@contextmanager
def fetched_file(value: str | Source, *, what: str) -> Iterator[Path]:
    """Yield a file on this machine: the one that a path leads to, or one that is fetched from an address.

    Raises
    ------
    MigvisError
        As `as_source`; if the connection is lost, or the folder for temporary files is too small.
    """
    source = as_source(value, what=what)
    if isinstance(source, Path):
        yield source
        return
    if isinstance(source, OpenFile):
        raise MigvisError(f"{what} is the open file {source}; expected a path or an address")
    with ExitStack() as stack:
        file = _fetch(source, Path(tempfile.gettempdir()), stack)
        try:
            yield file
        except MigvisError as error:
            raise MigvisError(str(error).replace(str(file), str(source))) from error


def _fetch(remote: Elsewhere, folder: Path, stack: ExitStack) -> Path:
    """Fetch a file into a private folder that the stack removes; the file has the name of the remote one."""
    if not folder.is_dir():
        raise MigvisError(f"{folder} is not a folder; expected one; make it, or give another --out")
    sweep_temporary_files(folder)
    free = shutil.disk_usage(folder).free
    zarr = zarr_of(remote)
    size = zarr.state[1] if zarr else remote.size
    if free < size + SPARE_BYTES:
        raise MigvisError(
            f"{folder}: found {free / 1e9:.2f} GB of free space; expected {size / 1e9:.2f} GB for "
            f"{remote}; free some, or give another --out"
        )
    private = temporary_path(folder / remote.name)
    file = private / (f"{remote.stem}.nwb" if zarr else remote.name)
    stack.callback(remove_temporary, private)
    try:
        private.mkdir(0o700)
        if isinstance(remote, RemoteFile):
            download(remote, file)
        elif zarr is not None:
            copy_to_hdf5(zarr, file)
    except OSError as error:
        raise MigvisError(
            f"{folder}: {remote} could not be fetched ({error.strerror}); expected a writable folder "
            "with space; give another --out"
        ) from None
    return file
