"""Names of unfinished files, and the reservation of an output."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from nwb_migvis.errors import MigvisError

_HOST = re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:40] or "host"
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.migvis-(?P<host>[A-Za-z0-9-]+)-(?P<pid>\d+)-(?P<token>[0-9a-f]{16})\.tmp"
)
_LOCK = re.compile(r"\..+\.migvis\.lock")


def temporary_path(destination: Path) -> Path:
    """Return a new name beside a destination, for a file that is not finished.

    It ends in 64 random bits: nobody can plant a link under it beforehand.
    """
    token = secrets.token_hex(8)
    return destination.with_name(f".{destination.name[:150]}.migvis-{_HOST}-{os.getpid()}-{token}.tmp")


def sweep_temporary_files(folder: Path) -> None:
    """Remove from a folder the temporary files and locks that killed processes of this user left there."""
    for path in folder.iterdir():
        if _LOCK.fullmatch(path.name):
            _remove_free_lock(path)
        match = _TEMPORARY.fullmatch(path.name)
        if not match or match["host"] != _HOST or _is_alive(int(match["pid"])):
            continue
        with contextlib.suppress(OSError):
            if not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid():
                remove_temporary(path)


def remove_temporary(path: Path) -> None:
    """Remove an unfinished file, or folder of files, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_free_lock(path: Path) -> None:
    with contextlib.suppress(OSError, MigvisError):
        descriptor = _locked(path, os.O_RDWR, path)
        if descriptor is not None:
            path.unlink()
            os.close(descriptor)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would interrupt the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


_reservations: dict[Path, int] = {}
"""How often this process has reserved each path."""
_guard = threading.Lock()


@contextlib.contextmanager
def reserve(*destinations: Path) -> Iterator[None]:
    """Keep other processes from writing these files, from the start of the work to its end.

    A lock is held on `.NAME.migvis.lock` beside each file. The system lets go of it when the process ends,
    however that happens. A process may reserve a file again. Where the system has no such locks, nothing is
    reserved.

    Raises
    ------
    MigvisError
        If another process has reserved one of them.
    """
    with contextlib.ExitStack() as stack:
        for destination in sorted({d.absolute() for d in destinations}):
            stack.enter_context(_reserved(destination))
        yield


@contextlib.contextmanager
def _reserved(destination: Path) -> Iterator[None]:
    with _guard:
        first = not _reservations.get(destination)
        descriptor = _lock(destination) if first else None
        _reservations[destination] = _reservations.get(destination, 0) + 1
    try:
        yield
    finally:
        with _guard:
            _reservations[destination] -= 1
            if not _reservations[destination]:
                del _reservations[destination]
        if descriptor is not None:
            with contextlib.suppress(OSError):
                _lock_path(destination).unlink()
            os.close(descriptor)


def _lock_path(destination: Path) -> Path:
    return destination.with_name(f".{destination.name[:150]}.migvis.lock")


def _lock(destination: Path) -> int | None:
    """Return a descriptor that holds the lock of a destination, or None where there are no locks."""
    path = _lock_path(destination)
    while True:
        descriptor = _locked(path, os.O_RDWR | os.O_CREAT, destination)
        if descriptor is None:
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)  # the former holder has just removed the file: try again


def _locked(path: Path, flags: int, destination: Path) -> int | None:
    """Open and lock a file; None where that cannot be, an error where another process has locked it."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        return None  # what is wrong with the folder is said where the destination is checked
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise MigvisError(
                f"{destination} is about to be written by another process; expected one at a time; wait "
                "for it, or give another --out"
            ) from None
        return None
    return descriptor
