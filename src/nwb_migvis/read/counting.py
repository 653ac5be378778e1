"""Exact spike counts in half-open windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress

_PIECE = 2**13
"""Spikes located at a time: few enough for the cache."""

_MOST_EDGES_PER_CELL = 8
_UNITS_PER_BLOCK = 32


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
        (presentation,) float64, seconds, in any order; at least one.
    window_s : (float, float)
        Start and end of the window relative to each start, seconds.
    """

    def __init__(self, start_time: np.ndarray, window_s: tuple[float, float]) -> None:
        start_time = np.asarray(start_time, np.float64)
        first, last = start_time + window_s[0], start_time + window_s[1]
        self.edges, where = np.unique(np.concatenate([first, last]), return_inverse=True)
        self._first, self._last = where[: len(first)], where[len(first) :]
        n_cells = min(max(4 * len(self.edges), 1024), 2**24)
        span = self.edges[-1] - self.edges[0]
        self._cells_per_s = n_cells / span if span > 0 else np.inf
        cells = np.zeros(len(self.edges), np.intp)
        if np.isfinite(self._cells_per_s):
            self._locate(self.edges, np.empty_like(self.edges), cells)
        per_cell = np.bincount(cells, minlength=n_cells + 1)
        self._before = np.cumsum(per_cell) - per_cell
        self._most = int(per_cell.max())
        self._has_grid = np.isfinite(self._cells_per_s) and self._most <= _MOST_EDGES_PER_CELL
        self._padded = np.append(self.edges, np.inf)
        self._buffer = np.empty(_PIECE)
        self._cells = np.empty(_PIECE, np.intp)
        self._is_reached = np.empty(_PIECE, bool)

    def _locate(self, times: np.ndarray, buffer: np.ndarray, cells: np.ndarray) -> None:
        """Write the cell of each time to `cells`; times before and after all edges lie outside the grid."""
        np.subtract(times, self.edges[0], out=buffer)
        np.multiply(buffer, self._cells_per_s, out=buffer)
        np.copyto(cells, buffer, casting="unsafe")

    def positions(self, times: np.ndarray) -> np.ndarray:
        """Return the number of edges <= each time, (spike,) intp; times are finite."""
        furthest = max(abs(times.min() - self.edges[0]), abs(times.max() - self.edges[0]))
        if not self._has_grid or furthest * self._cells_per_s > 2**62:
            return np.searchsorted(self.edges, times, side="right")
        positions = np.empty(len(times), np.intp)
        for i in range(0, len(times), _PIECE):
            piece, out = times[i : i + _PIECE], positions[i : i + _PIECE]
            buffer, cells = self._buffer[: len(piece)], self._cells[: len(piece)]
            is_reached = self._is_reached[: len(piece)]
            self._locate(piece, buffer, cells)
            self._before.take(cells, mode="clip", out=out)
            for _ in range(self._most):
                self._padded.take(out, mode="clip", out=buffer)
                np.greater_equal(piece, buffer, out=is_reached)
                np.add(out, is_reached, out=out)
        return positions

    def count(self, pieces: Iterable[np.ndarray]) -> np.ndarray:
        """Return the spikes in each window, (presentation,) int64.

        Parameters
        ----------
        pieces : iterable of numpy.ndarray
            (spike,) float64, seconds, finite: the spikes of one unit.
        """
        per_gap = np.zeros(len(self.edges) + 1, np.int64)
        for times in pieces:
            if len(times):
                per_gap += np.bincount(self.positions(times), minlength=len(per_gap))
        before = np.cumsum(per_gap, out=per_gap)
        return before.take(self._last) - before.take(self._first)


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
    window_s = check_window(window_s)
    begins = np.concatenate([[0], np.asarray(ends, np.int64)])
    rows = np.arange(len(begins) - 1) if rows is None else np.asarray(rows)
    counts = np.zeros((len(start_time), len(rows)), np.uint16)
    if not counts.size:
        return counts
    windows = Windows(start_time, window_s)
    held = _Held(spike_times, max(max_bytes // 8, 1024))
    block = np.empty((_UNITS_PER_BLOCK, len(start_time)), np.int64)
    for j, row in enumerate(progress(rows, what="counting spikes", total=len(rows), unit="unit")):
        k = j % _UNITS_PER_BLOCK
        block[k] = windows.count(_finite(held.pieces(begins[row], begins[row + 1]), f"{place}, row {row}"))
        if k == _UNITS_PER_BLOCK - 1 or j == len(rows) - 1:
            if block[: k + 1].max() > np.iinfo(counts.dtype).max:
                counts = counts.astype(np.uint32)
            counts[:, j - k : j + 1] = block[: k + 1].T
    return counts


def _finite(pieces: Iterable[np.ndarray], place: str) -> Iterator[np.ndarray]:
    for times in pieces:
        if not np.isfinite(times).all():
            raise MigvisError(
                f"{place}: spike_times hold NaN or infinity; expected seconds: mend or remove the unit"
            )
        yield times


class _Held:
    """A stretch of a long array in memory, read ahead so that many short slices cost one read."""

    def __init__(self, array: Any, length: int) -> None:
        self._array = array
        self._length = length
        self._first = 0
        self._values = np.empty(0)

    def pieces(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Yield the values from `first` to `last` as float64, at most `length` at a time."""
        for i in range(first, last, self._length):
            yield self._slice(i, min(i + self._length, last))

    def _slice(self, first: int, last: int) -> np.ndarray:
        if isinstance(self._array, np.ndarray):
            return np.asarray(self._array[first:last], np.float64)
        if first < self._first or last > self._first + len(self._values):
            self._first = first
            self._values = np.asarray(self._array[first : first + self._length], np.float64)
        return self._values[first - self._first : last - self._first]
