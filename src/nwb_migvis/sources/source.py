"""What a session is read from: a file on this machine or at an address, an open file, a Zarr folder."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import REMOTE, require
from nwb_migvis.files import as_path
from nwb_migvis.plain import Json
from nwb_migvis.sources.address import (
    asset_at,
    is_address,
    is_folder,
    name_at,
    public_address,
    whole_address,
)
from nwb_migvis.sources.archive import Located, locate
from nwb_migvis.sources.folder import ZarrFolder, hdf5_of, require_zarr, zarr_folder
from nwb_migvis.sources.remote_folder import RemoteFolder
from nwb_migvis.sources.stream import Stream

_SCHEMES = ("http", "https", "s3")
_COPY_BYTES = 2**23


class _Elsewhere:
    """A file that is not one on this machine: outputs that would lie beside it lie in the current folder."""

    name: str

    @property
    def stem(self) -> str:
        """Name of the file without its ending."""
        return Path(self.name).stem

    def with_name(self, name: str) -> Path:
        """Return a path in the current folder."""
        return Path(name)


@dataclass(frozen=True)
class RemoteFile(_Elsewhere):
    """A file that is read over the network.

    Attributes
    ----------
    address : str
        As the user gave it.
    url : str
        Where the bytes are.
    record : dict
        What the archive says of it; see `nwb_migvis.sources.archive.locate`.
    """

    address: str
    url: str
    record: Json = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of the file, as it would have on this machine."""
        return name_at(self.record.get("asset_path") or self.url)

    @property
    def size(self) -> int:
        """Bytes."""
        return _stream(self).size

    def provenance(self) -> dict[str, str]:
        """Return what a run records of the file: name, address, digest, and where it is in the archive.

        Of an address of the web the query, which can grant access, and a password are omitted.
        """
        state = {} if "sha256" in self.record else {"state": _stream(self).state}
        return {"path": self.name, "address": public_address(self.address), **self.record, **state}


@dataclass(frozen=True, eq=False)
class OpenFile(_Elsewhere):
    """A file that the caller has open, and keeps open for as long as pixels are read."""

    file: h5py.File

    def __str__(self) -> str:
        return str(self.file.filename) if self.file else "the closed file"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Last part of the file's name."""
        return str(self).rpartition("/")[2]

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.file.id.get_filesize())

    def provenance(self) -> dict[str, str]:
        """Return what a run records of the file: its name."""
        return {"path": self.name}


Source = Path | RemoteFile | RemoteFolder | OpenFile | ZarrFolder
"""What a session is read from."""


def as_source(value: Any, *, what: str) -> Source:
    """Return what a path, an address or an open file means.

    Parameters
    ----------
    value : path, str, h5py.File, or another source
    what : str
        What it is, for messages.

    Raises
    ------
    MigvisError
        If it is none of these, or the file at an address cannot be found.
    """
    if isinstance(value, RemoteFile | RemoteFolder | OpenFile | ZarrFolder):
        return value
    if isinstance(value, h5py.File):
        return _open_source(value, what=what)
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else b""
    if isinstance(text, str) and is_address(text):
        return _at(whole_address(text), what=what)
    path = as_path(value, what=what)
    return zarr_folder(path) or path


def local_file(value: Any, *, what: str, why: str) -> Path:
    """Return a path, where nothing else will do; `why` says so in the message."""
    source = as_source(value, what=what)
    if not isinstance(source, Path):
        raise MigvisError(f"{what} is {source}; expected a file on this machine: {why}")
    return source


def _open_source(file: h5py.File, *, what: str) -> Source:
    if not file:
        raise MigvisError(f"{what} is a closed h5py.File; expected an open one; open it, or give its path")
    path = Path(os.fsdecode(file.filename))
    is_plain = file.driver in ("sec2", "stdio", "windows") and path.is_file()
    return path if is_plain and file.mode == "r" else OpenFile(file)


def _at(address: str, *, what: str) -> RemoteFile | RemoteFolder:
    asset = asset_at(address)
    if asset is None and address.partition(":")[0] not in _SCHEMES:
        raise MigvisError(
            f"{what} is the address {address}; expected a path, or an address that begins with dandi://, "
            "https://, http:// or s3://"
        )
    require(REMOTE, what="reading over the network", extra="remote")
    found = Located(address, {}) if asset is None else locate(asset, address=address)
    if found.listed_at or (asset is None and is_folder(address)):
        require_zarr()
        return RemoteFolder(address, found.url, found.record, found.listed_at)
    remote = RemoteFile(address, found.url, found.record)
    _stream(remote)
    return remote


_streams: dict[tuple[int, RemoteFile], tuple[Stream, list[h5py.File]]] = {}
"""Files at addresses that this process reads; a child process opens its own."""


def _stream(remote: RemoteFile) -> Stream:
    key = os.getpid(), remote
    if key not in _streams:
        _streams[key] = Stream(remote.address, remote.url), []
    return _streams[key][0]


def _forget(remote: RemoteFile) -> None:
    _, files = _streams.pop((os.getpid(), remote), (None, []))
    for file in files:
        with contextlib.suppress(Exception):
            file.close()


@atexit.register
def close_streams() -> None:
    """Close what is open at addresses: a file of h5py that outlives the interpreter crashes it."""
    for pid, remote in list(_streams):
        if pid == os.getpid():
            _forget(remote)


@contextmanager
def open_hdf5(source: Source | str, **options: Any) -> Iterator[h5py.File]:
    """Open a session's HDF5 file for reading.

    A file at an address is opened once, and what was fetched of it serves all who open it later. When its
    connection was lost meanwhile, the end of the block says so, whatever was made of that inside.

    Parameters
    ----------
    source : path, or another source
    **options
        Of `h5py.File`, for a file on this machine.

    Raises
    ------
    OSError
        As `h5py.File`.
    MigvisError
        If a file could not be read over the network, or was closed.
    """
    if isinstance(source, RemoteFile):
        with _open_remote(source) as file:
            yield file
    elif isinstance(source, OpenFile):
        if not source.file:
            raise MigvisError("the h5py.File was closed; expected it open for as long as it is read from")
        with h5py.File(source.file.id.reopen()) as file:
            yield file
    else:
        zarr = zarr_of(source)
        with h5py.File(hdf5_of(zarr) if zarr else source, "r", **options) as file:
            yield file


@contextmanager
def _open_remote(remote: RemoteFile) -> Iterator[h5py.File]:
    stream = _stream(remote)
    files = _streams[os.getpid(), remote][1]
    try:
        if not files:
            files.append(h5py.File(stream, "r", rdcc_nbytes=2**26))
        with h5py.File(files[0].id.reopen()) as file:
            yield file
    except Exception as error:
        if stream.fault is not None and error is not stream.fault:
            raise stream.fault from error
        raise
    finally:
        if stream.fault is not None:
            _forget(remote)
    if stream.fault is not None:
        raise stream.fault


def zarr_of(source: Source | str) -> ZarrFolder | None:
    """Return the Zarr folder on this machine that a source is read from; None of others.

    A folder at an address is fetched for it, once per process.

    Raises
    ------
    MigvisError
        If a folder at an address cannot be fetched whole.
    """
    if isinstance(source, RemoteFolder):
        return source.here
    return source if isinstance(source, ZarrFolder) else None


def size_of(source: Source) -> int:
    """Return the size of a source's file in bytes."""
    return source.stat().st_size if isinstance(source, Path) else source.size


def folder_of(source: Source) -> Path | None:
    """Return the folder in which paths in a file are resolved; None where it has none on this machine."""
    if isinstance(source, ZarrFolder):
        return source.path.parent
    return source.parent if isinstance(source, Path) else None


def bytes_of(source: Source) -> bytes | None:
    """Return all bytes of a source's file; None of one that is open already."""
    if isinstance(source, Path):
        return source.read_bytes()
    zarr = zarr_of(source)
    if zarr is not None:
        return hdf5_of(zarr).read_bytes()
    if not isinstance(source, RemoteFile):
        return None
    stream = _stream(source)
    stream.seek(0)
    return stream.read(stream.size)


def state_of(remote: RemoteFile) -> tuple[int, int]:
    """Return what changes when a remote file does, asked of its server anew."""
    stream = Stream(remote.address, remote.url)
    return stream.size, int.from_bytes(hashlib.sha256(stream.state.encode()).digest()[:7])


def download(remote: RemoteFile, path: Path) -> None:
    """Write a remote file to a new path, and compare its digest with the archive's where that has one.

    Raises
    ------
    MigvisError
        If the connection is lost, or other bytes arrive than the archive has.
    """
    stream, digest = _stream(remote), hashlib.sha256()
    stream.seek(0)
    with path.open("xb") as file:
        while data := stream.read(_COPY_BYTES):
            digest.update(data)
            file.write(data)
    expected = remote.record.get("sha256", digest.hexdigest())
    if digest.hexdigest() != expected:
        raise MigvisError(
            f"{remote}: the bytes that arrived have the sha256 {digest.hexdigest()[:12]}...; expected "
            f"{expected[:12]}..., which the archive records; try again, with a new --stream-cache or none"
        )
