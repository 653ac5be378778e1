"""Progress bars that show only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Turn every progress bar of this process off (or on again)."""
    global _quiet
    _quiet = quiet


def progress(
    iterable: Iterable[T], *, what: str, total: int | None = None, unit: str = "step"
) -> Iterator[T]:
    """Iterate with a bar on stderr when stderr is a terminal, silently otherwise.

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
    from tqdm import tqdm

    disable = _quiet or not sys.stderr.isatty()
    return iter(tqdm(iterable, desc=what, total=total, unit=unit, disable=disable, leave=False))
