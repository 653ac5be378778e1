"""The bytes of a file that is read over the network, fetched in blocks as they are asked for."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.sources.connection import (
    ConnectionLost,
    Incomplete,
    Unreachable,
    file_system,
    reported,
    tried,
)

SMALL_FILE_BYTES = 2**26
"""Files up to this size are fetched in blocks of `LARGE_BLOCK_BYTES`, most of which a session needs."""

LARGE_BLOCK_BYTES = 2**20
SMALL_BLOCK_BYTES = 2**15
"""Of larger files: between the pixels of images stored one by one, only their headers are needed."""

MEMORY_BYTES = 40 * 2**20
"""Of blocks that are kept in memory, for each file."""

_MOST_AT_ONCE = 2**22
"""Bytes of one request."""

_folder: list[Path] = []
"""Where blocks are kept: the last one, in every thread of this process."""


@contextmanager
def stream_cache(folder: str | Path | None) -> Iterator[None]:
    """Keep what this process fetches in the block in a folder, and read it from there the next time.

    Parameters
    ----------
    folder : path or None
        Made where it is absent. It may be deleted at any time between runs. None keeps nothing.

    Raises
    ------
    MigvisError
        If it is a file, or cannot be made.
    """
    path = None if folder is None else Path(folder)
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MigvisError(
                f"stream cache {path}: {error.strerror}; expected a folder, or a path where one can be made"
            ) from None
        _folder.append(path)
    try:
        yield
    finally:
        if path is not None:
            _folder.remove(path)


class Stream(io.RawIOBase):
    """A remote file, for h5py to read.

    HDF5 hides the errors of what it reads from; so the first is kept, and nothing is read after it.

    Parameters
    ----------
    address : str
        For messages; also what h5py names the file.
    url : str
        Where the bytes are.

    Attributes
    ----------
    size : int
    state : str
        What changes when the file does; "" where the server does not say.
    fault : MigvisError or None
    """

    def __init__(self, address: str, url: str) -> None:
        from fsspec.caching import BlockCache

        self._address, self._url = address, url
        with reported(address), _no_collection():
            self._file, info = _open(url)
        self.size = int(self._file.size)
        self.state = state_in(info)
        self.fault: MigvisError | None = None
        self._place = self._wanted = self._next = 0
        self._ahead: dict[int, bytes] = {}
        self._block_bytes = LARGE_BLOCK_BYTES if self.size <= SMALL_FILE_BYTES else SMALL_BLOCK_BYTES
        self._span = self._block_bytes
        n_blocks = MEMORY_BYTES // self._block_bytes
        self._blocks = BlockCache(self._block_bytes, self._block, self.size, n_blocks)

    def __repr__(self) -> str:
        return self._address

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer from the place onwards, and return how many bytes that were."""
        if self.fault is not None:
            raise self.fault
        view = memoryview(buffer).cast("B")
        end = self._wanted = min(self._place + len(view), self.size)
        try:
            data = self._blocks._fetch(self._place, end) if end > self._place else b""
        except MigvisError as error:
            self.fault = error
            raise
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _block(self, start: int, end: int) -> bytes:
        """Return the bytes of a block: fetched ahead, from the folder of blocks, or over the network."""
        if start in self._ahead:
            return self._ahead.pop(start)
        end = min(end, self.size)
        kept = self._kept(start)
        if kept is not None:
            with contextlib.suppress(OSError):
                data = kept.read_bytes()
                if len(data) == end - start:
                    return data
        data = self._fetched(start, self._stop(start))
        self._ahead = {
            start + i: data[i : i + self._block_bytes] for i in range(0, len(data), self._block_bytes)
        }
        if kept is not None:
            for first, block in self._ahead.items():
                keep_file(kept.with_name(_block_name(first)), block)
        return self._ahead.pop(start)

    def _stop(self, start: int) -> int:
        """Return where a request from `start` on ends: with what is asked for, or beyond it in a row."""
        self._span = min(2 * self._span, LARGE_BLOCK_BYTES) if start == self._next else self._block_bytes
        n_bytes = max(self._span, min(self._wanted - start, _MOST_AT_ONCE))
        n_blocks = -(-n_bytes // self._block_bytes)
        self._next = min(start + n_blocks * self._block_bytes, self.size)
        return self._next

    def _kept(self, start: int) -> Path | None:
        if not is_kept():
            return None
        check_state(self.state, address=self._address)
        key = f"{self._url.partition('?')[0]}\0{self.size}\0{self.state}\0{self._block_bytes}"
        return _folder[-1] / hashlib.sha256(key.encode()).hexdigest()[:32] / _block_name(start)

    def _fetched(self, start: int, end: int) -> bytes:
        def fetch() -> bytes:
            data = self._file._fetch_range(start, end)
            if len(data) != end - start:
                raise Incomplete(f"{len(data)} of {end - start} bytes arrived")
            return data

        with reported(self._address), _no_collection():
            try:
                return tried(fetch)
            except ConnectionLost as error:
                raise Unreachable(
                    f"{self._address}: the connection was lost ({error}); expected {end - start} bytes from "
                    f"{start} on; try again (with --stream-cache DIR nothing is fetched twice), or download "
                    "the file"
                ) from None


def _block_name(start: int) -> str:
    return f"{start:012d}"


def state_in(info: Mapping[str, Any]) -> str:
    """Return what changes when a file does, from what its server says of it; "" where it does not say."""
    keys = ("ETag", "Content-MD5", "LastModified", "Last-Modified")
    return next((str(info[key]) for key in keys if info.get(key)), "")


def check_state(state: str, *, address: str) -> None:
    """Refuse to keep a file of which nothing says whether it changed."""
    if not state:
        raise Unreachable(
            f"{address}: the server says nothing by which a changed file is known (no ETag, no "
            "Last-Modified); expected that for a stream cache; omit --stream-cache"
        )


def _open(url: str) -> tuple[Any, Any]:
    """Return an open file of fsspec that caches nothing, and what the server says of it."""
    system, path = file_system(url)
    info = system.info(path)
    if info.get("type") == "directory":
        raise FileNotFoundError(url)
    if not info.get("size") or info.get("partial") is False:
        raise ValueError("no ranges")
    size = None if url.startswith("s3:") else info["size"]
    return system.open(path, "rb", block_size=LARGE_BLOCK_BYTES, cache_type="none", size=size), info


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector of garbage from running meanwhile.

    fsspec fetches in a thread of its own. h5py holds its lock while it waits for that thread; a collection
    there that meets an object of h5py would wait for the lock, for ever.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def is_kept() -> bool:
    """Return whether what is fetched is kept in a folder."""
    return bool(_folder)


def kept_file(url: str, size: int | None, state: str) -> Path:
    """Return where a file that is fetched at once is kept, where `is_kept`.

    Parameters
    ----------
    url : str
        Without a query.
    size : int or None
        Bytes.
    state : str
        What changes when the file does.
    """
    digest = hashlib.sha256(f"{url}\0{size}\0{state}\0whole".encode()).hexdigest()
    return _folder[-1] / f"whole-{digest[:2]}" / digest[2:34]


def keep_file(path: Path, data: bytes) -> None:
    """Write a block that others may be writing too, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Unreachable(
            f"stream cache {path.parent.parent}: {error.strerror}; expected a writable folder with space; "
            "omit --stream-cache, or give another"
        ) from None
