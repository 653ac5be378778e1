"""The inner loop of counting, compiled where numba is installed (extra `fast`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

WORTH_COMPILING = 10_000_000
"""Spikes from which compiling, about a second when it is first done, is soon paid back."""


def has_numba() -> bool:
    """Say whether the loop can be compiled."""
    return find_spec("numba") is not None


@functools.cache
def compiled_tally() -> Callable[..., bool]:
    """Return `tally`, compiled; it runs in several threads at a time."""
    import numba

    try:
        return numba.njit(nogil=True, cache=True)(tally)
    except RuntimeError:  # no folder that a cache can be written to
        return numba.njit(nogil=True)(tally)


def tally(
    times: np.ndarray,
    grid: tuple[float, float, np.ndarray, int],
    edges: np.ndarray,
    per_gap: np.ndarray,
) -> bool:
    """Add spikes to the gaps between window edges, as `counting.Windows` finds them.

    Parameters
    ----------
    times : numpy.ndarray
        (spike,) float64, seconds.
    grid : (origin, cells_per_s, before, most)
        Where the grid of cells begins and how fine it is; (cell,) edges before each cell; edges in the
        fullest cell.
    edges : numpy.ndarray
        (edge + 1,) sorted, infinity last.
    per_gap : numpy.ndarray
        (edge + 1,) changed in place: spikes with as many edges at or before them.

    Returns
    -------
    bool
        False if a time is not finite; what `per_gap` holds then is useless.
    """
    origin, cells_per_s, before, most = grid
    last = len(before) - 1
    for time in times:
        if not np.isfinite(time):
            return False
        at = (time - origin) * cells_per_s
        cell = last if at >= last else (np.intp(at) if at > 0 else 0)
        gap = before[cell]
        for _ in range(most):
            gap += edges[gap] <= time
        per_gap[gap] += 1
    return True
