"""What is being done: bars on a terminal and in notebooks, a line per stage elsewhere, and a dated log."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from nwb_migvis.alongside import stop_if_asked
from nwb_migvis.errors import MigvisError, printable

T = TypeVar("T")

_quiet = False
_say: Callable[[str], None] | None = None
_log: Path | None = None
_UNSAID = ("reading",)
"""A file that cannot be read is said in one line and nothing else."""

_open: list[str] = []
"""Stages that are under way, the outermost first."""
_work: Work | None = None

_curves: list[dict[str, Any]] = []


def set_quiet(quiet: bool) -> None:
    """Turn every progress bar of this process off (or on again)."""
    global _quiet
    _quiet = quiet


def is_watched() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    interactive = sys.modules.get("IPython")
    shell = None if interactive is None else interactive.get_ipython()
    return sys.stderr.isatty() or hasattr(shell, "kernel")


@contextmanager
def telling(say: Callable[[str], None] | None, *, log: str | Path | None = None) -> Iterator[None]:
    """Say a line per stage inside the block, and keep a dated log.

    Parameters
    ----------
    say : callable, optional
        Takes each line; not called while somebody watches bars.
    log : path, optional
        File that gets a dated line for each stage, its seconds, each loss on the validation stimuli, and each
        warning. Lines are added to a file that is there.

    Raises
    ------
    MigvisError
        If the log cannot be written.
    """
    global _say, _log
    before = _say, _log
    _say, _log = say, None if log is None else Path(log)
    try:
        note(f"nwb-migvis: {printable(' '.join(sys.argv[1:]))}")
        with warnings.catch_warnings():
            if log is not None:
                warnings.simplefilter("default")
                warnings.showwarning = lambda message, category, *_, **__: note(  # type: ignore[assignment]
                    f"warning: {category.__name__}: {printable(str(message))}"
                )
            yield
    except BaseException as error:
        note(f"ended: {type(error).__name__}: {printable(str(error))}")
        raise
    finally:
        _say, _log = before


def note(text: str) -> None:
    """Add a dated line to the log, where there is one.

    Raises
    ------
    MigvisError
        If it cannot be written.
    """
    if _log is None:
        return
    try:
        with _log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
    except OSError as error:
        raise MigvisError(f"log {_log}: {error.strerror}; give another --log") from None


def open_stage() -> str | None:
    """Return the outermost stage that is under way, None where there is none."""
    return _open[0] if _open else None


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say that a stage of the work begins, and note how long it took.

    A stage within another one is a part of it: it is noted in the log under both names, and not said.
    """
    inside = open_stage()
    title = name if inside in (None, name) else f"{inside}, {name}"
    if inside != name:
        note(f"{title} begins")
    if inside is None and _say is not None and name not in _UNSAID and not _quiet and not is_watched():
        _say(f"{name} ...")
    if inside is None and _work is not None:
        _work.begin(name)
    start = time.perf_counter()
    _open.append(name)
    try:
        yield
    finally:
        _open.pop()
    if inside != name:
        note(f"{title} took {time.perf_counter() - start:.1f} s")
    if inside is None and _work is not None:
        _work.end(name)


class Work:
    """A bar over the stages of a longer work, above the bars of what is done in each.

    Parameters
    ----------
    stages : sequence of str
        Names in order; those that are omitted are passed over.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = list(stages)
        form = "{desc} ({n_fmt} of {total_fmt} stages done, {elapsed}) |{bar}|"
        self._bar = _tqdm(total=len(stages), desc="starting", bar_format=form, leave=False, disable=_silent())

    def begin(self, name: str) -> None:
        """Show which stage begins."""
        self._bar.set_description_str(name)

    def end(self, name: str) -> None:
        """Show how many stages are done."""
        if name in self._stages:
            self._bar.update(self._stages.index(name) + 1 - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


@contextmanager
def working(stages: Sequence[str]) -> Iterator[None]:
    """Show a bar over the stages of the work inside the block."""
    global _work
    before, _work = _work, Work(stages)
    try:
        yield
    finally:
        _work.close()
        _work = before


def _silent() -> bool:
    return _quiet or not is_watched()


def _tqdm(*arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without widgets the bar is text
        from tqdm.auto import tqdm

    return tqdm(*arguments, **options)


@contextmanager
def keeping_curves(curves: dict[str, Any]) -> Iterator[None]:
    """Keep the curves of trainings inside the block: `step` and `loss` lists, by what was trained."""
    _curves.append(curves)
    try:
        yield
    finally:
        _curves.pop()


def note_curve(what: str, steps: list[int], losses: list[float]) -> None:
    """Hand over the losses of a training on the validation stimuli."""
    if _curves and steps:
        finite = [loss if math.isfinite(loss) else None for loss in losses]
        _curves[-1][what] = {"step": list(steps), "loss": finite}


class Bar(Iterator[T]):
    """An iteration with a bar on stderr, or in a notebook, when somebody watches; silent otherwise.

    Parameters
    ----------
    iterable : iterable
    what : str
        What is being done, shown before the bar.
    total : int, optional
        Number of items, where `iterable` has no length.
    unit : str
        Name of one item.
    """

    def __init__(
        self, iterable: Iterable[T], *, what: str, total: int | None = None, unit: str = "step"
    ) -> None:
        bar = _tqdm(iterable, desc=what, total=total, unit=unit, disable=_silent(), leave=False)
        self._what, self._bar, self._items = what, bar, iter(bar)

    def __next__(self) -> T:
        stop_if_asked()
        return next(self._items)

    def show_loss(self, step: int, loss: float) -> None:
        """Show the current loss beside the bar, and note it."""
        self._bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
        note(f"{self._what}: step {step}, loss on the validation stimuli {loss:.6g}")


def progress(iterable: Iterable[T], *, what: str, total: int | None = None, unit: str = "step") -> Bar[T]:
    """Return an iteration with a bar; see `Bar`."""
    return Bar(iterable, what=what, total=total, unit=unit)
