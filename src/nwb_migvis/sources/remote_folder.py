"""Zarr folders at addresses: their files are fetched into a private folder, which is read as any other."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.sources.address import name_at, public_address
from nwb_migvis.sources.archive import files_of
from nwb_migvis.sources.connection import (
    ConnectionLost,
    Incomplete,
    Unreachable,
    file_system,
    reported,
    tried,
)
from nwb_migvis.sources.folder import (
    ZarrFolder,
    check_plain,
    check_whole,
    read_json,
    require_zarr,
    zarr_folder,
)
from nwb_migvis.sources.listing import (
    FileThere,
    archive_checksum,
    chunk_files,
    metadata_files,
    nodes_of,
    place_of,
)
from nwb_migvis.sources.stream import check_state, is_kept, keep_file, kept_file, state_in

_AT_ONCE = 8
"""Files that are fetched at the same time: each is in memory meanwhile."""

_SPARE_BYTES = 2**24


@dataclass(frozen=True)
class RemoteFolder:
    """An NWB session in a Zarr folder that is read over the network, through a copy on this machine.

    Attributes
    ----------
    address : str
        As the user gave it.
    url : str
        Where its files are.
    record : dict
        What the archive says of it; see `nwb_migvis.sources.archive.locate`.
    listed_at : str
        Where the archive lists its files; "" where it is not one of the archive.
    """

    address: str
    url: str
    record: Json = field(default_factory=dict, compare=False)
    listed_at: str = ""

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """Name of the folder, as it would have on this machine."""
        return name_at(self.record.get("asset_path") or self.url)

    @property
    def stem(self) -> str:
        """Name of the folder without its endings."""
        return self.name.removesuffix(".zarr").removesuffix(".nwb")

    def with_name(self, name: str) -> Path:
        """Return a path in the current folder."""
        return Path(name)

    @property
    def size(self) -> int:
        """Bytes of the copy that is read."""
        return self.here.size

    @property
    def here(self) -> ZarrFolder:
        """The folder on this machine: fetched once per process, and removed when that ends.

        Raises
        ------
        MigvisError
            If it cannot be fetched whole, is no NWB session, or holds pickled objects.
        """
        if self not in _here or not _here[self].path.exists():
            _here[self] = _fetched(self)
        return _here[self]

    def provenance(self) -> dict[str, str]:
        """Return what a run records of the folder: name, address, digest, and where it is in the archive.

        The digest is that of the folder on this machine. Of an address of the web the query, which can grant
        access, and a password are omitted.
        """
        own = {"path": self.name, "address": public_address(self.address)}
        return {**own, **self.record, "sha256": self.here.provenance()["sha256"]}


_here: dict[RemoteFolder, ZarrFolder] = {}
"""Folders at addresses that this process fetched."""


def _fetched(remote: RemoteFolder) -> ZarrFolder:
    require_zarr()
    private = Path(tempfile.mkdtemp(prefix="nwb-migvis-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    try:
        return _Fetching(remote, private / remote.name).whole()
    except BaseException:
        shutil.rmtree(private, ignore_errors=True)
        raise


class _Fetching:
    """Fetches the files of one folder: first those that say what it holds, then the others."""

    def __init__(self, remote: RemoteFolder, folder: Path) -> None:
        self.remote, self.folder = remote, folder
        self.base, _, self.query = remote.url.partition("?")
        self.base = self.base.rstrip("/")
        with reported(str(remote)):
            self.system, self.root = file_system(self.base)

    def whole(self) -> ZarrFolder:
        """Fetch all, and return the folder."""
        listed = self._listed()
        roots = [file for file in listed or () if file.is_metadata and "/" not in file.key]
        for file in roots:  # one by one: the first opens the connection that all others use
            self._one(file)
        nodes = self._nodes() if listed is None else {}
        self._session()
        if listed is None:
            self._fetch(metadata_files(nodes))
        else:
            self._check_list(listed)
            self._fetch([file for file in listed if file.is_metadata and file not in roots])
        folder = self._session()
        check_plain(folder)
        check_whole(folder)
        if listed is None:
            self._fetch(chunk_files(nodes, address=str(self.remote)))
        else:
            self._fetch([file for file in listed if not file.is_metadata])
        return self._session()

    def _nodes(self) -> Mapping[str, Any]:
        """Fetch the root's metadata, and return what it says of all groups and arrays."""
        self._one(FileThere("zarr.json", may_be_absent=True))
        if not (self.folder / "zarr.json").exists():
            raise Unreachable(
                f"{self.remote}: found no zarr.json there (404); expected a folder of Zarr 3; check the "
                "address, or download a folder of Zarr 2 and give its path"
            )
        nodes = nodes_of(read_json(self.folder / "zarr.json"))
        if nodes is None:
            raise MigvisError(
                f"{self.remote}: its zarr.json does not list what the folder holds; expected that of a web "
                "server, which does not list files; consolidate the folder's metadata "
                "(zarr.consolidate_metadata), or download it and give its path"
            )
        return nodes

    def _session(self) -> ZarrFolder:
        found = zarr_folder(self.folder, called=str(self.remote))
        if found is None:
            raise MigvisError(
                f"{self.remote} is no NWB session; expected a folder whose root has the neurodata_type "
                "NWBFile; check the address"
            )
        return found

    def _listed(self) -> list[FileThere] | None:
        """Return the files that the archive or the bucket lists; None of a web server, which lists none."""
        if self.remote.listed_at:
            listed = files_of(self.remote.listed_at, address=str(self.remote))
        elif urlsplit(self.base).scheme == "s3":
            with reported(str(self.remote)):
                found = self._tried(lambda: self.system.find(self.root, detail=True))
            listed = [
                FileThere(path.removeprefix(f"{self.root}/"), int(about["size"]), str(about.get("ETag", "")))
                for path, about in found.items()
                if path.startswith(f"{self.root}/") and not path.endswith("/")
            ]
        else:
            return None
        if not listed:
            raise Unreachable(f"{self.remote}: found nothing there; expected a folder; check the address")
        return listed

    def _check_list(self, listed: list[FileThere]) -> None:
        n_bytes = sum(file.size or 0 for file in listed)
        free = shutil.disk_usage(self.folder.parent).free
        if free < 2 * n_bytes + _SPARE_BYTES:
            raise MigvisError(
                f"{self.folder.parent.parent}: found {free / 1e9:.2f} GB of free space; expected "
                f"{2 * n_bytes / 1e9:.2f} GB for {self.remote} and its copy in HDF5; free some, or set "
                "TMPDIR to a folder with more"
            )
        expected = self.remote.record.get("zarr_checksum")
        if expected and archive_checksum(listed) != expected:
            raise MigvisError(
                f"{self.remote}: the archive lists files of the digest {archive_checksum(listed)}; expected "
                f"{expected}, which it records of the folder; it may be changing: try again later"
            )

    def _fetch(self, files: Iterable[FileThere]) -> None:
        """Write files into the folder; the first that fails ends it."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(self._one, files):
                pass

    def _one(self, file: FileThere) -> None:
        place = place_of(file.key, self.folder, address=str(self.remote))
        with reported(str(self.remote)):
            data = self._bytes_of(file)
        if data is None:
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        except OSError as error:
            raise MigvisError(
                f"{self.folder.parent.parent}: {file.key} of {self.remote} could not be written "
                f"({error.strerror}); expected a folder with space; set TMPDIR to another"
            ) from None

    def _bytes_of(self, file: FileThere) -> bytes | None:
        """Return what a file holds, kept or fetched; None where it is absent and may be."""
        key = file.key if urlsplit(self.base).scheme == "s3" else quote(file.key)
        path = f"{self.root}/{key}" + (f"?{self.query}" if self.query else "")

        def fetch() -> bytes:
            data: bytes = self.system.cat_file(path)
            fault = self._fault(file, data)
            if fault:
                raise Incomplete(fault)
            return data

        try:
            if not is_kept():
                return self._tried(fetch)
            state = file.state or state_in(self._tried(lambda: self.system.info(path)))
            check_state(state, address=str(self.remote))
            kept = kept_file(f"{self.base}/{file.key}", file.size, state)
            with contextlib.suppress(OSError):
                data = kept.read_bytes()
                if not self._fault(file, data):
                    return data
            data = self._tried(fetch)
            keep_file(kept, data)
            return data
        except FileNotFoundError as error:
            why = error.__cause__  # fsspec says so of whatever a server answers, or that none does
            if why and not isinstance(why, FileNotFoundError) and getattr(why, "status", 0) != 404:
                raise
            if file.may_be_absent:
                return None
            raise Unreachable(
                f"{self.remote}: its file {file.key} was not found (404); expected a whole folder; get a "
                "whole copy of it"
            ) from None

    def _fault(self, file: FileThere, data: bytes) -> str:
        if file.size is not None and len(data) != file.size:
            return f"{len(data)} of {file.size} bytes arrived"
        if file.md5 and hashlib.md5(data, usedforsecurity=False).hexdigest() != file.md5:
            return f"other bytes arrived of {file.key} than the archive lists"
        return ""

    def _tried(self, fetch: Any) -> Any:
        try:
            return tried(fetch)
        except ConnectionLost as error:
            raise Unreachable(
                f"{self.remote}: the connection was lost ({error}); expected all files of the "
                "folder; try again, or download it"
            ) from None
