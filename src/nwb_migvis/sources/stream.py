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
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError

BLOCK_BYTES = 2**20
"""What is fetched at a time."""

MOST_BLOCKS = 40
"""Blocks in memory."""

_TRIES = 3
_PAUSE_S = 0.25
"""Before the second try; four times as long before each further one."""


class Unreachable(MigvisError):
    """A file at an address that cannot be read, or not to its end."""


_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


@contextmanager
def stream_cache(folder: str | Path | None) -> Iterator[None]:
    """Keep what is fetched in the block in a folder, and read it from there the next time.

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
    before = _folder.set(path)
    try:
        yield
    finally:
        _folder.reset(before)


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
    fault : Unreachable or None
    """

    def __init__(self, address: str, url: str) -> None:
        from fsspec.caching import BlockCache

        self._address, self._url = address, url
        with _reported(address), _no_collection():
            self._file, info = _open(url)
        self.size = int(self._file.size)
        self.state = next((str(info[key]) for key in _STATES if info.get(key)), "")
        self.fault: Unreachable | None = None
        self._place = 0
        self._blocks = BlockCache(BLOCK_BYTES, self._block, self.size, MOST_BLOCKS)

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
        end = min(self._place + len(view), self.size)
        try:
            data = self._blocks._fetch(self._place, end) if end > self._place else b""
        except Unreachable as error:
            self.fault = error
            raise
        view[: len(data)] = data
        self._place += len(data)
        return len(data)

    def _block(self, start: int, end: int) -> bytes:
        """Return the bytes of a block, from the folder of blocks where it has them."""
        end = min(end, self.size)
        kept = self._kept(start)
        if kept is not None:
            with contextlib.suppress(OSError):
                data = kept.read_bytes()
                if len(data) == end - start:
                    return data
        data = self._fetched(start, end)
        if kept is not None:
            _keep(kept, data)
        return data

    def _kept(self, start: int) -> Path | None:
        folder = _folder.get()
        if folder is None:
            return None
        if not self.state:
            raise Unreachable(
                f"{self._address}: the server says nothing by which a changed file is known (no ETag, no "
                "Last-Modified); expected that for a stream cache; omit --stream-cache"
            )
        key = f"{self._url.partition('?')[0]}\0{self.size}\0{self.state}"
        return folder / hashlib.sha256(key.encode()).hexdigest()[:32] / f"{start // BLOCK_BYTES:06d}"

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
    return system.open(path, "rb", block_size=BLOCK_BYTES, cache_type="none", size=size), info


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
