"""What the fuzzers share: files read in a process that is watched, and restarted after a crash or a hang."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MOST_BYTES = 2 * 2**30
MOST_S = 20.0
"""Processor time of one step; `LIMIT_S` is the time on the clock that a file may take on a busy machine."""

LIMIT_S = 120.0
BAD = ("traceback", "crash", "hang", "memory", "terminal", "outside")
LONG_AGO_S = 10**9

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = frozenset(
    {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink"}
)
_NEVER = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "socket.bind",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "pickle.find_class",
)


class Watch:
    """Notes what a process that reads files made to harm must not do.

    That is: the network, other programs, unpickling, and changing or reading a file outside. What the HDF5
    library reads is seen by the time of the last access of canaries, files that hostile links lead to.

    Parameters
    ----------
    canaries : Path
        Folder of files that nothing may read or change.
    allowed : sequence of Path
        Folders that may be written to.
    """

    def __init__(self, canaries: Path, *, allowed: Iterable[Path]) -> None:
        self.canaries = sorted(canaries.iterdir())
        self.allowed = tuple(f"{folder.resolve()}{os.sep}" for folder in allowed)
        self.notes: list[str] = []
        self._before = self._state()
        sys.addaudithook(self._look)

    def _state(self) -> list[tuple[str, bool]]:
        """Return content of each canary and whether it was read; the time of access is then set back."""
        state = []
        for path in self.canaries:
            was_read = path.stat().st_atime != LONG_AGO_S
            state.append((hashlib.sha256(path.read_bytes()).hexdigest(), was_read))
            os.utime(path, (LONG_AGO_S, path.stat().st_mtime))
        return state

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NEVER:
            self.notes.append(f"{event} {arguments!r:.100}")
        elif event == "open":
            path, mode, flags = arguments
            is_writing = (flags or 0) & _WRITING if mode is None else set("wax+") & set(mode)
            if is_writing and isinstance(path, (str, bytes, os.PathLike)):
                self._note(event, os.fsdecode(path))
        elif event in _CHANGING and isinstance(arguments[0], (str, bytes, os.PathLike)):
            self._note(event, os.fsdecode(arguments[0]))

    def _note(self, event: str, path: str) -> None:
        if path != os.devnull and not os.path.realpath(path).startswith(self.allowed):
            self.notes.append(f"{event} {path}")

    def found(self) -> str:
        """Return what was noted since the last call, "" if nothing."""
        state = self._state()
        for path, (digest, was_read), (before, _) in zip(self.canaries, state, self._before, strict=True):
            if was_read or digest != before:
                self.notes.append(f"{'read' if digest == before else 'changed'} {path}")
        self._before = state
        notes, self.notes = "; ".join(self.notes), []
        return notes


def ending_of(steps: Iterable[tuple[str, Callable[[], Any]]], watch: Watch) -> tuple[str, list[str]]:
    """Do with a file what the commands do.

    Returns
    -------
    str
        How it ended: `read`, `error ...`, or one of `BAD`.
    list of str
        The steps that ended in an error of one line.
    """
    from nwb_migvis import MigvisError

    ending, refused = "read", []
    for name, step in steps:
        start_s = time.process_time()
        try:
            shown = step()
        except MigvisError as error:
            shown = str(error)
            ending = f"error {error}" if ending == "read" else ending
            refused.append(name)
            if "allocate" in shown:
                return f"memory {shown}", refused
        except Exception as error:
            return f"traceback in {name}: {type(error).__name__}: {error}", refused
        if isinstance(shown, str) and any(not c.isprintable() and c != "\n" for c in shown):
            return f"terminal {name} {shown!r:.200}", refused
        if (took_s := time.process_time() - start_s) > MOST_S:
            return f"hang {name} took {took_s:.0f} s", refused
        if notes := watch.found():
            return f"outside {name}: {notes}", refused
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (ending if peak < MOST_BYTES else f"memory {peak} bytes"), refused


def say(number: int, text: str) -> None:
    """Print how a file ended, for `fuzz_reading.endings`."""
    print(f"{number} " + " ".join(text.split()), flush=True)


def summary(endings: list[str]) -> str:
    """Return how many files ended how."""
    kinds = Counter(ending.split(" ", 1)[0] for ending in endings)
    return ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))


def judge(endings: list[str], *, what: str, verbose: bool = False) -> bool:
    """Print how files ended; tell whether all ended well and the first, which is unchanged, was read."""
    print(f"{what}: {summary(endings)}", flush=True)
    for i, ending in enumerate(endings):
        if verbose or ending.startswith(BAD):
            print(f"  {what} {i}: {ending}")
    if not endings[0].startswith("read"):
        print(f"  {what} 0, which is not changed, is not read: {endings[0]}")
    return endings[0].startswith("read") and not any(ending.startswith(BAD) for ending in endings)
