"""Work in a process of its own, whose crash is an error like any other.

HDF5 can end a process when a disk is full: it fails to close the file, and then fails again.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json

_DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


def run_apart(task: Callable[[], None]) -> None:
    """Call `task` in a child process and wait for it; its exception is raised here.

    Elsewhere than on Linux, where forking is not safe, it is called in this process.

    Raises
    ------
    MigvisError, ValueError, KeyboardInterrupt
        As the task.
    OSError
        If the task raised one or ran out of memory, or its process crashed.
    RuntimeError
        For any other exception of the task, with its traceback.
    """
    with done_apart(task):
        pass


@contextmanager
def done_apart(task: Callable[[], None]) -> Iterator[None]:
    """Do a task as `run_apart` does, while the block runs; an exception of the block ends it."""
    if sys.platform != "linux":
        task()
        yield
        return
    reading, writing = os.pipe()
    parent = os.getpid()
    process = _fork()
    if process == 0:
        os.close(reading)
        _be_child(task, writing, parent)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield
            report = pipe.read()
        _, status = os.waitpid(process, 0)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, 0)
        raise
    if os.WIFSIGNALED(status):
        raise OSError(f"the writing process ended by {signal.Signals(os.WTERMSIG(status)).name}")
    if not report:
        raise OSError("the writing process ended early")
    _raise(json.loads(report))


def reason_of(error: BaseException | str) -> str:
    """Return the reason of an error on one line; of the HDF5 library's long ones the system's own words."""
    text = " ".join(str(error).split())
    of_system = re.search(r"error message = '([^']+)'", text)
    return of_system[1] if of_system else text[:300] or type(error).__name__


def _fork() -> int:
    from h5py._objects import phil

    with warnings.catch_warnings(), phil:  # no other thread is inside HDF5 at the fork
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _be_child(task: Callable[[], None], writing: int, parent: int) -> NoReturn:
    """Do the task, report and end, without the cleaning up that belongs to the parent."""
    report: Json = {"kind": None}
    try:
        _die_with(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        faulthandler.disable()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        gc.freeze()  # what the parent made is not looked through for garbage here
        task()
    except BaseException as error:
        report = {"kind": _kind(error), "message": str(error), "trace": traceback.format_exc()}
    with contextlib.suppress(OSError), os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(report).encode())
    os._exit(0)


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent ends."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _kind(error: BaseException) -> str:
    for kind in (MigvisError, ValueError, KeyboardInterrupt, OSError, MemoryError):
        if isinstance(error, kind):
            return kind.__name__
    return "other"


def _raise(report: Json) -> None:
    kind = report["kind"]
    if kind is None:
        return
    if kind == "MigvisError":
        raise MigvisError(report["message"])
    if kind == "ValueError":
        raise ValueError(report["message"])
    if kind == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if kind in ("OSError", "MemoryError"):
        raise OSError(report["message"] or "out of memory")
    raise RuntimeError(report["trace"])
