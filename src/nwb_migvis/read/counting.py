"""Exact spike counts in half-open windows."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress
from nwb_migvis.read.compiled import WORTH_COMPILING, compiled_tally, has_numba

if TYPE_CHECKING:
    from nwb_migvis.read.times import SpikeSpan

_PIECE = 2**14
"""Spikes located at a time: few enough for the cache."""

_MOST_EDGES_PER_CELL = 8
UNITS_PER_BATCH = 32
_MOST_THREADS = 8


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
    compiled : bool
        Whether to count in a compiled loop, which needs numba; the counts are the same.
    """

    def __init__(
        self, start_time: np.ndarray, window_s: tuple[float, float], *, compiled: bool = False
    ) -> None:
        start_time = np.asarray(start_time, np.float64)
        first, last = start_time + window_s[0], start_time + window_s[1]
        self.edges, where = _sorted_edges(first, last)
        self._first, self._last = where[: len(first)], where[len(first) :]
        self._are_apart = bool((self._last - self._first == 1).all())
        self._in_turn = self._are_apart and bool((self._first == 2 * np.arange(len(first))).all())
        n_cells = min(max(2 * len(self.edges), 1024), 2**24)
        span = self.edges[-1] - self.edges[0]
        self._cells_per_s = n_cells / span if span > 0 else np.inf
        self._origin = self.edges[0] if not 0 <= self.edges[0] <= span else 0.0
        cells = np.zeros(len(self.edges), np.intp)
        if np.isfinite(self._cells_per_s):
            self._locate(self.edges, np.empty_like(self.edges), cells)
        per_cell = np.bincount(cells, minlength=n_cells + 1)
        self._before = np.cumsum(per_cell) - per_cell
        self._most = int(per_cell.max())
        self._has_grid = np.isfinite(self._cells_per_s) and self._most <= _MOST_EDGES_PER_CELL
        self._padded = np.append(self.edges, np.inf)
        self._tally = compiled_tally() if compiled and self._has_grid else None
        self._own = threading.local()

    def _locate(self, times: np.ndarray, buffer: np.ndarray, cells: np.ndarray) -> None:
        """Write the cell of each time to `cells`; times before and after all edges lie outside the grid."""
        if self._origin:
            times = np.subtract(times, self._origin, out=buffer)
        np.multiply(times, self._cells_per_s, out=buffer)
        np.copyto(cells, buffer, casting="unsafe")

    def positions(self, times: np.ndarray) -> np.ndarray:
        """Return the number of edges <= each time, (spike,) intp.

        Raises
        ------
        ValueError
            If a time is not finite.
        """
        low, high = times.min() - self._origin, times.max() - self._origin
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("times hold NaN or infinity")
        if not self._has_grid or max(-low, high) * self._cells_per_s > 2**62:
            return np.searchsorted(self.edges, times, side="right")
        positions = np.empty(len(times), np.intp)
        all_buffer, all_cells, all_reached = (
            np.empty(_PIECE),
            np.empty(_PIECE, np.intp),
            np.empty(_PIECE, bool),
        )
        for i in range(0, len(times), _PIECE):
            piece, out = times[i : i + _PIECE], positions[i : i + _PIECE]
            n = len(piece)
            buffer, cells, is_reached = all_buffer[:n], all_cells[:n], all_reached[:n]
            self._locate(piece, buffer, cells)
            self._before.take(cells, mode="clip", out=out)
            for _ in range(self._most):
                self._padded.take(out, mode="clip", out=buffer)
                np.greater_equal(piece, buffer, out=is_reached)
                np.add(out, is_reached, out=out)
        return positions

    def count(self, pieces: Iterable[np.ndarray]) -> np.ndarray:
        """Return the spikes in each window, (presentation,) int64, which hold until the thread's next count.

        Parameters
        ----------
        pieces : iterable of numpy.ndarray
            (spike,) float64, seconds: the spikes of one unit.
        """
        per_gap = self._cleared()
        for times in pieces:
            if len(times):
                self._add(times, per_gap)
        if self._in_turn:  # every second gap is a window
            return per_gap[1::2]
        if self._are_apart:  # a window is one gap between neighbouring edges
            return per_gap.take(self._last)
        before = np.cumsum(per_gap)
        return before.take(self._last) - before.take(self._first)

    def _cleared(self) -> np.ndarray:
        """Return zeros for every gap between edges, in memory that the thread keeps."""
        if not hasattr(self._own, "per_gap"):
            self._own.per_gap = np.empty(len(self._padded), np.int64)
        self._own.per_gap.fill(0)
        return self._own.per_gap

    def _add(self, times: np.ndarray, per_gap: np.ndarray) -> None:
        """Add the spikes to the gaps between edges that they lie in."""
        if self._tally is None:
            per_gap += np.bincount(self.positions(times), minlength=len(per_gap))
            return
        grid = self._origin, self._cells_per_s, self._before, self._most
        if not self._tally(times, grid, self._padded, per_gap):
            raise ValueError("times hold NaN or infinity")


def _sorted_edges(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different edges in order, and the place of each first and then of each last edge."""
    in_turn = np.stack([first, last], axis=1).ravel()
    if (in_turn[1:] > in_turn[:-1]).all():
        return in_turn, np.arange(len(in_turn)).reshape(-1, 2).T.ravel()
    return np.unique(np.concatenate([first, last]), return_inverse=True)


LONGEST_WINDOW_S = 2.0
"""A window that begins or ends further from the onset than this may be in milliseconds."""


def check_window(window_s: tuple[float, float], *, allow_long: bool = True) -> tuple[float, float]:
    """Return a window as two floats, or raise `MigvisError` if it is not one.

    Parameters
    ----------
    window_s : (float, float)
        Seconds.
    allow_long : bool
        Whether it may begin or end over 2 s before or after the onset.
    """
    try:
        first, last = (float(value) for value in window_s)
    except (TypeError, ValueError):
        raise MigvisError(
            f"window {window_s!r} is not a pair of seconds; expected e.g. (0.07, 0.17)"
        ) from None
    if not (np.isfinite(first) and np.isfinite(last)):
        raise MigvisError(
            f"window [{first:g}, {last:g}) s is not finite; expected seconds, e.g. (0.07, 0.17)"
        )
    if not first < last:
        raise MigvisError(f"window [{first:g}, {last:g}) s is empty; expected its start before its end")
    if not allow_long and max(-first, last) > LONGEST_WINDOW_S:
        raise MigvisError(
            f"window [{first:g}, {last:g}) s reaches over {LONGEST_WINDOW_S:g} s from the onset; expected "
            "seconds, e.g. 0.07 0.17: correct it, or allow it with allow_long_window=True "
            "(--allow-long-window)"
        )
    return first, last


def count_spikes(
    spike_times: Any,
    ends: np.ndarray,
    start_time: np.ndarray,
    *,
    window_s: tuple[float, float] = (0.07, 0.17),
    rows: np.ndarray | None = None,
    max_bytes: int = 2**27,
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
        Spike times read at a time, in bytes; the memory needed beside the output is about four times that.
    place : str
        Name of the units' table, for messages.

    Returns
    -------
    numpy.ndarray
        (presentation, unit) uint16, or uint32 where a count needs it; a unit's counts lie side by side.

    Raises
    ------
    MigvisError
        For a spike time that is not finite.

    Notes
    -----
    Ten million spikes and more are counted in a compiled loop where numba is installed.
    """
    trains = Trains(spike_times, np.asarray(ends, np.int64), rows, place)
    return count_trains(trains, start_time, window_s=check_window(window_s), max_bytes=max_bytes)


@dataclass(frozen=True)
class Trains:
    """Spike times of units, one train after another; see `count_spikes`."""

    spike_times: Any
    ends: np.ndarray
    rows: np.ndarray | None = None
    place: str = "units"

    @property
    def table_rows(self) -> np.ndarray:
        """Positions in `ends` of the units that are counted."""
        return np.arange(len(self.ends)) if self.rows is None else np.asarray(self.rows)

    def pieces(self, max_bytes: int = 2**27) -> Iterator[np.ndarray]:
        """Yield the spikes of all units, (spike,) float64 seconds, at most `max_bytes` at a time."""
        length = max(max_bytes // 8, 1024)
        yield from _Stretch(self.spike_times, length).pieces(0, int(self.ends[-1]))

    def batches(self, rows: Iterable[int], max_bytes: int = 2**27) -> Iterator[list[Unit]]:
        """Yield rows with their spikes, some at a time; one too long for memory comes in pieces."""
        stretch = _Stretch(self.spike_times, max(max_bytes // 8, 1024))
        begins = np.concatenate([[0], self.ends])
        batch: list[Unit] = []
        n_spikes = 0
        for row in rows:
            first, last = begins[row], begins[row + 1]
            if batch and (n_spikes + last - first > stretch.length or len(batch) == UNITS_PER_BATCH):
                yield batch
                batch, n_spikes = [], 0
            is_small = last - first <= stretch.length
            batch.append((row, [stretch.values(first, last)] if is_small else stretch.pieces(first, last)))
            n_spikes += last - first
        yield batch


def count_trains(
    trains: Trains,
    start_time: np.ndarray,
    *,
    window_s: tuple[float, float],
    max_bytes: int = 2**27,
    spike_span: SpikeSpan | None = None,
) -> np.ndarray:
    """Do what `count_spikes` does, and note in `spike_span` when the units fire."""
    counts = np.zeros((len(start_time), len(trains.table_rows)), np.uint16, order="F")
    watching = None if spike_span is None else lambda row, pieces: spike_span.watching(pieces)
    for i, column in enumerate(
        unit_by_unit(trains, start_time, window_s=window_s, max_bytes=max_bytes, watching=watching)
    ):
        counts = counts.astype(np.result_type(counts, column), copy=False)
        counts[:, i] = column
    return counts


Unit = tuple[int, Iterable[np.ndarray]]
"""A row of the table, and the pieces of its train."""

Watching = Callable[[int, Iterable[np.ndarray]], Iterable[np.ndarray]]
"""Yields the pieces of a row's train, having looked at them."""


def unit_by_unit(
    trains: Trains,
    start_time: np.ndarray,
    *,
    window_s: tuple[float, float],
    max_bytes: int = 2**27,
    watching: Watching | None = None,
) -> Iterator[np.ndarray]:
    """Yield the counts of one unit after another, as `columns` does; none without presentations."""
    rows = trains.table_rows
    if not len(start_time) or not len(rows):
        return
    n_spikes = int(np.diff(trains.ends, prepend=0)[rows].sum())
    windows = Windows(start_time, window_s, compiled=n_spikes >= WORTH_COMPILING and has_numba())
    units = progress(rows, what="counting spikes", total=len(rows))
    yield from columns(trains.batches(units, max_bytes), windows, trains.place, watching)


def columns(
    batches: Iterable[Sequence[Unit]],
    windows: Windows,
    place: str,
    watching: Watching | None = None,
) -> Iterator[np.ndarray]:
    """Yield the counts of one unit after another, (presentation,) uint16, or uint32 where a count needs it.

    Parameters
    ----------
    batches : iterable of sequence of Unit
        Units that are counted at once, by threads.
    windows : Windows
    place : str
        Name of the units' table.
    watching : Watching, optional

    Raises
    ------
    MigvisError
        For a spike time that is not finite.
    """

    def count(unit: Unit) -> np.ndarray:
        row, pieces = unit
        try:
            column = windows.count(pieces if watching is None else watching(row, pieces))
            return column.astype(np.uint16 if column.max() <= np.iinfo(np.uint16).max else np.uint32)
        except ValueError:
            raise MigvisError(
                f"{place}, row {row}: spike_times hold NaN or infinity; expected seconds: correct the file"
            ) from None

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for batch in batches:
            yield from list(pool.map(count, batch))


class _Stretch:
    """A stretch of a long array in memory, read ahead so that many short slices cost one read.

    Parameters
    ----------
    array : array-like
        (value,).
    length : int
        Most values read at a time.
    """

    def __init__(self, array: Any, length: int) -> None:
        self.length = length
        self._array = array
        self._first = 0
        self._values = np.empty(0)

    def pieces(self, first: int, last: int) -> Iterator[np.ndarray]:
        """Yield the values from `first` to `last`, at most `length` at a time."""
        for i in range(first, last, self.length):
            yield self.values(i, min(i + self.length, last))

    def values(self, first: int, last: int) -> np.ndarray:
        """Return the values from `first` to `last`, no more than `length`, as float64."""
        if isinstance(self._array, np.ndarray):
            return np.asarray(self._array[first:last], np.float64)
        if first < self._first or last > self._first + len(self._values):
            self._first, self._values = (
                first,
                np.empty(0),
            )  # lets go of the last stretch before the next is read
            self._values = np.asarray(self._array[first : first + self.length], np.float64)
        return self._values[first - self._first : last - self._first]
