"""Work in a second thread beside other work, that ends when the other work fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Generic, TypeVar

T = TypeVar("T")

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


class Stopped(BaseException):
    """Ends work in a second thread whose result nobody waits for."""


def stop_if_asked() -> None:
    """End the work of this thread where it is no longer wanted; long work calls this at every step."""
    event = _stop.get()
    if event is not None and event.is_set():
        raise Stopped


class Pending(Generic[T]):
    """A result that is being worked on.

    Parameters
    ----------
    task : callable
    in_thread : bool
        Whether to work on it in a thread of its own; else it is done when its result is asked for.
    """

    def __init__(self, task: Callable[[], T], *, in_thread: bool) -> None:
        self._task = task
        self._error: BaseException | None = None
        self._values: list[T] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if in_thread:
            context = copy_context()
            context.run(_stop.set, self._stop)
            self._thread = threading.Thread(target=context.run, args=(self._work,), daemon=True)
            self._thread.start()

    def _work(self) -> None:
        try:
            self._values.append(self._task())
        except BaseException as error:
            self._error = error

    def result(self) -> T:
        """Return what the task returned, or raise what it raised."""
        if self._thread is not None:
            self._thread.join()
        elif not self._values and self._error is None:
            self._work()
        if self._error is not None:
            raise self._error
        return self._values[0]

    def stop(self) -> None:
        """Ask the task to end at its next step."""
        self._stop.set()


@contextmanager
def alongside(task: Callable[[], T], *, in_thread: bool = True) -> Iterator[Pending[T]]:
    """Do a task in a second thread while the block goes on; the block asks for its result.

    A block that ends without asking, or by an error, stops the task at its next step and does not wait.

    Parameters
    ----------
    task : callable
        Should draw random numbers from generators of its own alone.
    in_thread : bool
        False does the task when its result is asked for, for machines with one core.
    """
    pending = Pending(task, in_thread=in_thread)
    try:
        yield pending
    finally:
        pending.stop()
