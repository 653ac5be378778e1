"""How much memory the content of one file may take: in proportion to the file, or as the user allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nwb_migvis.errors import MigvisError

LEAST_BYTES = 2**29
FILE_SIZES = 50
"""Real recordings are not compressed this well: what claims more was made to fill the memory."""

_allowed: ContextVar[int | None] = ContextVar("allowed", default=None)


@contextmanager
def memory_limit(n_bytes: float | None) -> Iterator[None]:
    """Allow what is read of a file in the block this much memory; None for the limit that goes by its size.

    Parameters
    ----------
    n_bytes : float or None
        For any one dataset of a session, and for all of a run's results together.

    Raises
    ------
    MigvisError
        If it is not above 0.
    """
    if n_bytes is not None and not n_bytes > 0:
        raise MigvisError(f"the memory limit is {n_bytes!r} bytes; expected more than 0")
    before = _allowed.set(None if n_bytes is None else int(n_bytes))
    try:
        yield
    finally:
        _allowed.reset(before)


def most_bytes(file_bytes: int) -> int:
    """Return what the content of a file of this size may take: 512 MiB, 50 file sizes, or what is allowed."""
    allowed = _allowed.get()
    return max(LEAST_BYTES, FILE_SIZES * file_bytes) if allowed is None else allowed


def check_memory(what: str, n_bytes: int, *, file_bytes: int) -> None:
    """Refuse what would take more memory than the content of a file may.

    Parameters
    ----------
    what : str
        What takes it, for the message.
    n_bytes : int
    file_bytes : int
        Size of the file.

    Raises
    ------
    MigvisError
    """
    most = most_bytes(file_bytes)
    if n_bytes > most:
        raise MigvisError(
            f"{what} would take {n_bytes / 1e9:.3g} GB of memory; expected at most {most / 1e9:.3g} GB for a "
            f"file of {file_bytes / 1e9:.3g} GB; allow more with --max-memory (memory_limit)"
        )
