"""Exact spike counts in half-open windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress

_PIECE = 2**15
_MOST_EDGES_PER_CELL = 8


class Windows:
    """Windows [start + w0, start + w1) in which the spikes of one unit after another are counted.

    Each spike is located among the sorted window edges through a regular grid of cells over time: the
    cells before a spike's own tell how many edges lie before it, and only the few edges in its own cell
    are compared with it. The cell of a time never decreases with time, in floating point too, so the
    counts are exact. Cost grows with the number of spikes plus the number of windows, whatever the order
    of either and however the windows overlap.

    Parameters
    ----------
    start_time : numpy.ndarray
        (presentation,) float64, seconds, in any order.
    window_s : (float, float)
        Start and end of the window relative to each start, seconds.
    """

    def __init__(self, start_time: np.ndarray, window_s: tuple[float, float]) -> None:
        start_time = np.asarray(start_time, np.float64)
        first, last = start_time + window_s[0], start_time + window_s[1]
        self.edges, where = np.unique(np.concatenate([first, last]), return_inverse=True)
        self._first, self._last = where[: len(first)], where[len(first) :]
        n = len(self.edges)
        span = self.edges[-1] - self.edges[0] if n else 0.0
        n_cells = int(min(max(4 * n, 1024), 2**24))
        self._per_second = n_cells / span if span > 0 and np.isfinite(n_cells / span) else 0.0
        self._n_cells = n_cells
        edge_cells = self._cells(self.edges)
        per_cell = np.bincount(edge_cells, minlength=n_cells + 1)
        self._before = np.concatenate([[0], np.cumsum(per_cell)[:-1]]).astype(np.intp)
        self._most = int(per_cell.max()) if n else 0
        self._padded = np.concatenate([self.edges, np.full(self._most, np.inf)])

    def _cells(self, times: np.ndarray) -> np.ndarray:
        cells = times - (self.edges[0] if len(self.edges) else 0.0)
        cells *= self._per_second
        np.clip(cells, 0, self._n_cells, out=cells)
        return cells.astype(np.intp)

    def _n_edges_before(self, times: np.ndarray) -> np.ndarray:
        """Return the number of edges <= each time."""
        if self._most > _MOST_EDGES_PER_CELL:
            return np.searchsorted(self.edges, times, side="right")
        position = self._before.take(self._cells(times))
        reached = position.copy()
        for i in range(self._most):
            reached += times >= self._padded.take(position + i)
        return reached

    def histogram(self, spike_times: np.ndarray, counts: np.ndarray) -> None:
        """Add the spikes between neighbouring edges to `counts`, (n_edges + 1,) int64."""
        position = np.empty(len(spike_times), np.intp)
        for i in range(0, len(spike_times), _PIECE):
            position[i : i + _PIECE] = self._n_edges_before(spike_times[i : i + _PIECE])
        counts += np.bincount(position, minlength=len(counts))

    def counts(self, histogram: np.ndarray) -> np.ndarray:
        """Return the spikes in each window, (presentation,) int64, from a histogram over the edges."""
        before = np.cumsum(histogram)
        return before[self._last] - before[self._first]


def check_window(window_s: tuple[float, float]) -> tuple[float, float]:
    """Return a window as two floats, or raise `MigvisError` if it is none."""
    try:
        first, last = (float(value) for value in window_s)
    except (TypeError, ValueError):
        raise MigvisError(f"window {window_s!r} is no pair of seconds; expected e.g. (0.07, 0.17)") from None
    if not (np.isfinite(first) and np.isfinite(last) and first < last):
        raise MigvisError(f"window [{first:g}, {last:g}) s is empty; expected its start before its end")
    return first, last


def count_spikes(
    spike_times: Any,
    ends: np.ndarray,
    start_time: np.ndarray,
    *,
    window_s: tuple[float, float] = (0.07, 0.17),
    rows: np.ndarray | None = None,
    max_bytes: int = 2**28,
    place: str = "units",
) -> np.ndarray:
    """Count each unit's spikes in [start + window_s[0], start + window_s[1]).

    Window edges are `start + window_s` in float64 and are compared exactly.

    Parameters
    ----------
    spike_times : array-like
        (spike,) seconds, the units' trains one after another, sorted or not; an HDF5 dataset is read in
        pieces.
    ends : numpy.ndarray
        (all units,) where each train ends in `spike_times` (NWB's `spike_times_index`).
    start_time : numpy.ndarray
        (presentation,) seconds, in any order, overlapping or not.
    window_s : (float, float)
        Seconds.
    rows : numpy.ndarray, optional
        Units to count, positions in `ends`; all by default.
    max_bytes : int
        Most spike times held at a time, in bytes; the working memory is about four times that.
    place : str
        Name of the units' table, for messages.

    Returns
    -------
    numpy.ndarray
        (presentation, unit) uint16, or uint32 where a count needs it.

    Raises
    ------
    MigvisError
        For a spike time that is not finite.
    """
    windows = Windows(start_time, check_window(window_s))
    begins = np.concatenate([[0], np.asarray(ends, np.int64)])
    rows = np.arange(len(begins) - 1) if rows is None else np.asarray(rows)
    counts = np.zeros((len(windows._first), len(rows)), np.uint16)
    if not counts.size:
        return counts
    most = max(max_bytes // 8, 1024)
    held = _Held(spike_times, most)
    for j, row in enumerate(progress(rows, what="counting spikes", total=len(rows), unit="unit")):
        histogram = np.zeros(len(windows.edges) + 1, np.int64)
        for i in range(begins[row], begins[row + 1], most):
            times = held[i, min(i + most, begins[row + 1])]
            if not np.isfinite(times).all():
                raise MigvisError(
                    f"{place}: spike_times of row {row} hold NaN or infinity; expected seconds: mend the file"
                )
            windows.histogram(times, histogram)
        found = windows.counts(histogram)
        if counts.dtype == np.uint16 and found.max() > np.iinfo(np.uint16).max:
            counts = counts.astype(np.uint32)
        counts[:, j] = found
    return counts


class _Held:
    """A stretch of a long array in memory, read ahead so that many short slices cost one read."""

    def __init__(self, array: Any, length: int) -> None:
        self._array = array
        self._length = length
        self._first = 0
        self._values = np.empty(0)

    def __getitem__(self, bounds: tuple[int, int]) -> np.ndarray:
        first, last = bounds
        if isinstance(self._array, np.ndarray):
            return self._array[first:last]
        if first < self._first or last > self._first + len(self._values):
            self._first = first
            self._values = np.asarray(self._array[first : max(last, first + self._length)], np.float64)
        return self._values[first - self._first : last - self._first]
