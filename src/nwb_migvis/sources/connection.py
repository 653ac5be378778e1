"""Connections to servers: opened, tried again, and what is said of those that fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from nwb_migvis.errors import MigvisError

TRIES = 3
PAUSE_S = 0.25
"""Before the second try; four times as long before each further one."""

_Answer = TypeVar("_Answer")


class Unreachable(MigvisError):
    """A file at an address that cannot be read, or not to its end."""


def file_system(url: str) -> tuple[Any, str]:
    """Return a file system of fsspec for a web server or a public bucket, and the path of `url` in it."""
    import fsspec

    options: dict[str, Any] = {"skip_instance_cache": True}
    if url.partition(":")[0] == "s3":
        options |= {"anon": True, "config_kwargs": {"retries": {"max_attempts": TRIES}}}
    else:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    return fsspec.core.url_to_fs(url, **options)


def tried(fetch: Callable[[], _Answer]) -> _Answer:
    """Return what a function fetches, tried three times unless trying again cannot help.

    Raises
    ------
    ConnectionLost
        After the last try, with the reason.
    Exception
        What `fetch` raises, where it is final: nothing is there, or reading it is not allowed.
    """
    why = ""
    for i in range(TRIES):
        if i:
            time.sleep(PAUSE_S * 4 ** (i - 1))
        try:
            return fetch()
        except Exception as error:
            if _is_final(error):
                raise
            why = reason(error)
    raise ConnectionLost(why)


class ConnectionLost(Exception):
    """Bytes did not arrive, however often they were asked for."""


class Incomplete(Exception):
    """Other bytes arrived than were asked for."""


@contextmanager
def reported(address: str) -> Iterator[None]:
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
            f"reading it is not allowed ({reason(error)}); expected a public file; download it with what "
            "grants you access, and give its path"
        )
    what = "its server refused" if status else "its server could not be reached"
    return f"{what} ({reason(error)}); expected an answer; check the address and the connection"


def _is_final(error: Exception) -> bool:
    """Return whether trying again cannot help."""
    status = getattr(error, "status", None) or 0
    return isinstance(error, FileNotFoundError | PermissionError | ValueError) or 400 <= status < 500


def reason(error: BaseException) -> str:
    """Return what an error says, in one line of at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
