"""The bytes of a file that is read over the network, fetched in blocks as they are asked for."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError

SMALL_FILE_BYTES = 2**26
"""Files up to this size are fetched in blocks of `LARGE_BLOCK_BYTES`, most of which a session needs."""

LARGE_BLOCK_BYTES = 2**20
SMALL_BLOCK_BYTES = 2**15
"""Of larger files: between the pixels of images stored one by one, only their headers are needed."""

MEMORY_BYTES = 40 * 2**20
"""Of blocks that are kept in memory, for each file."""

_MOST_AT_ONCE = 2**22
"""Bytes of one request."""

_TRIES = 3
_PAUSE_S = 0.25
"""Before the second try; four times as long before each further one."""


class Unreachable(MigvisError):
    """A file at an address that cannot be read, or not to its end."""


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
        with _reported(address), _no_collection():
            self._file, info = _open(url)
        self.size = int(self._file.size)
        self.state = next((str(info[key]) for key in _STATES if info.get(key)), "")
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
                _keep(kept.with_name(_block_name(first)), block)
        return self._ahead.pop(start)

    def _stop(self, start: int) -> int:
        """Return where a request from `start` on ends: with what is asked for, or beyond it in a row."""
        self._span = min(2 * self._span, LARGE_BLOCK_BYTES) if start == self._next else self._block_bytes
        n_bytes = max(self._span, min(self._wanted - start, _MOST_AT_ONCE))
        n_blocks = -(-n_bytes // self._block_bytes)
        self._next = min(start + n_blocks * self._block_bytes, self.size)
        return self._next

    def _kept(self, start: int) -> Path | None:
        if not _folder:
            return None
        if not self.state:
            raise Unreachable(
                f"{self._address}: the server says nothing by which a changed file is known (no ETag, no "
                "Last-Modified); expected that for a stream cache; omit --stream-cache"
            )
        key = f"{self._url.partition('?')[0]}\0{self.size}\0{self.state}\0{self._block_bytes}"
        return _folder[-1] / hashlib.sha256(key.encode()).hexdigest()[:32] / _block_name(start)

    def _fetched(self, start: int, end: int) -> bytes:
        with _reported(self._address), _no_collection():
            for i in range(_TRIES):
                try:
                    data = self._file._fetch_range(start, end)
                    if len(data) == end - start:
                        return data
                    reason = f"{len(data)} of {end - start} bytes arrived"
                except Exception as error:
                    if _is_final(error):
                        raise
                    reason = _reason(error)
                if i + 1 < _TRIES:
                    time.sleep(_PAUSE_S * 4**i)
        raise Unreachable(
            f"{self._address}: the connection was lost ({reason}); expected {end - start} bytes from "
            f"{start} on; try again (with --stream-cache DIR nothing is fetched twice), or download the file"
        )


def _block_name(start: int) -> str:
    return f"{start:012d}"


_STATES = ("ETag", "Content-MD5", "LastModified", "Last-Modified")


def _open(url: str) -> tuple[Any, Any]:
    """Return an open file of fsspec that caches nothing, and what the server says of it."""
    import fsspec

    scheme = url.partition(":")[0]
    options: dict[str, Any] = {"skip_instance_cache": True}
    if scheme == "s3":
        options |= {"anon": True, "config_kwargs": {"retries": {"max_attempts": _TRIES}}}
    else:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    system, path = fsspec.core.url_to_fs(url, **options)
    info = system.info(path)
    if info.get("type") == "directory":
        raise FileNotFoundError(url)
    if not info.get("size") or info.get("partial") is False:
        raise ValueError("no ranges")
    size = None if scheme == "s3" else info["size"]
    return system.open(path, "rb", block_size=LARGE_BLOCK_BYTES, cache_type="none", size=size), info


@contextmanager
def _reported(address: str) -> Iterator[None]:
    """Say in one line what a server refused, or that there is none."""
    try:
        yield
    except MigvisError:
        raise
    except ValueError:  # what fsspec raises when a server sends the whole file for a part of it
        raise Unreachable(
            f"{address}: its server does not send parts of a file (no ranges); expected one that does; "
            "download the file and give its path"
        ) from None
    except Exception as error:
        raise Unreachable(f"{address}: {_why_refused(error)}") from None


def _why_refused(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # fsspec says so of whatever a server answers
    status = getattr(error, "status", None)
    if status == 404 or isinstance(error, FileNotFoundError):
        return "found nothing there (404); expected a file; check the address"
    if isinstance(error, PermissionError) or status in (401, 403):
        return (
            f"reading it is not allowed ({_reason(error)}); expected a public file; download it with what "
            "grants you access, and give its path"
        )
    what = "its server refused" if status else "its server could not be reached"
    return f"{what} ({_reason(error)}); expected an answer; check the address and the connection"


def _is_final(error: Exception) -> bool:
    """Return whether trying again cannot help."""
    status = getattr(error, "status", None) or 0
    return isinstance(error, FileNotFoundError | PermissionError | ValueError) or 400 <= status < 500


def _reason(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


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


def _keep(path: Path, data: bytes) -> None:
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
