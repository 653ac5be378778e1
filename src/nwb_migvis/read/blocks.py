"""Counts and images larger than memory: dask arrays of blocks that are read, and counted, when asked for."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import require
from nwb_migvis.plain import nearest
from nwb_migvis.read.counting import UNITS_PER_BATCH, Trains, Unit, Windows, columns
from nwb_migvis.read.pixels import OpenFiles
from nwb_migvis.sources import Source

DIMS = ("presentation", "stimulus")
"""Dimensions that are cut into blocks; units and pixels of a block are read whole."""

_ZONE = 2**12
"""Spikes of which only the first and last time are noted: no fewer are read."""


def checked_chunks(chunks: Any) -> dict[str, Any]:
    """Return the size of blocks along each of `DIMS`.

    Parameters
    ----------
    chunks : "auto", or mapping of dimension to int or "auto"
        -1 is all in one block.

    Raises
    ------
    MigvisError
        If it is something else, or dask is not installed.
    """
    require(("dask",), what="reading in blocks (chunks)", extra="cluster")
    if chunks == "auto":
        chunks = {}
    expected = 'expected "auto", or a size per block such as {"presentation": 10000, "stimulus": 500}'
    if not isinstance(chunks, Mapping):
        raise MigvisError(f"chunks is {chunks!r:.80}; {expected}")
    for name, size in chunks.items():
        if name not in DIMS:
            raise MigvisError(f"chunks has {name!r:.40}; expected {nearest(str(name), DIMS)}")
        is_size = (
            isinstance(size, int | np.integer) and not isinstance(size, bool) and (size > 0 or size == -1)
        )
        if size != "auto" and not is_size:
            raise MigvisError(f'chunks[{name!r}] is {size!r:.40}; expected 1 or more, -1 for all, or "auto"')
    return {name: chunks.get(name, "auto") for name in DIMS}


def in_blocks(session: xr.Dataset, chunks: Mapping[str, Any]) -> xr.Dataset:
    """Return a session whose counts and images are dask arrays, cut along `DIMS` alone."""
    for name in ("spike_count", "observed", "image"):
        if name in session:
            variable = session[name].variable
            sizes = {dim: chunks.get(str(dim), -1) for dim in variable.dims}
            unique = f"{name}-{uuid.uuid4().hex}"  # else dask reads all of a file to name it
            session[name] = variable.chunk(sizes, name=unique)
    return session


@dataclass
class Zones:
    """Where in its train a unit's spikes lie in time: first and last time of every few thousand of them.

    Nothing is assumed of the order of spikes; where they are sorted, zones do not overlap.

    Attributes
    ----------
    length : dict of int to list of int
        By row of the table, spikes of each zone.
    low, high : dict of int to list of float
        Their least and greatest time, seconds.
    """

    length: dict[int, list[int]] = field(default_factory=dict)
    low: dict[int, list[float]] = field(default_factory=dict)
    high: dict[int, list[float]] = field(default_factory=dict)

    def watching(self, row: int, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the pieces of a train, (spike,) float64 each, noting their times."""
        self.length[row], self.low[row], self.high[row] = [], [], []
        for times in pieces:
            if len(times):
                first = np.arange(0, len(times), _ZONE)
                self.length[row] += np.diff(first, append=len(times)).tolist()
                self.low[row] += np.minimum.reduceat(times, first).tolist()
                self.high[row] += np.maximum.reduceat(times, first).tolist()
            yield times

    def between(self, row: int, first_s: float, last_s: float) -> list[tuple[int, int]]:
        """Return the stretches of a unit's train, (begin, end) each, that hold all spikes of a time."""
        ends = np.cumsum(self.length[row])
        is_near = (np.array(self.high[row]) >= first_s) & (np.array(self.low[row]) <= last_s)
        edges = np.flatnonzero(np.diff(is_near, prepend=False, append=False))
        begins = np.concatenate([[0], ends])
        return [(int(begins[a]), int(begins[b])) for a, b in edges.reshape(-1, 2)]


@dataclass(frozen=True, eq=False)
class Counting:
    """How the spikes of one table of units are counted again, some presentations at a time.

    Attributes
    ----------
    home : str, another source, or None
        What the spike times are read from; None where they are in memory.
    trains : Trains
        Their `spike_times` are the name of a dataset there.
    zones : Zones
    start_time : numpy.ndarray
        (presentation,) seconds.
    window_s : (float, float)
    max_bytes : int
        Spike times read at a time.
    dtype : numpy.dtype
        What all counts fit in.
    """

    home: str | Source | None
    trains: Trains
    zones: Zones
    start_time: np.ndarray
    window_s: tuple[float, float]
    max_bytes: int
    dtype: np.dtype

    def counts(self, rows: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Return the counts of some presentations and units, (presentation, unit)."""
        found = np.zeros((len(rows), len(units)), self.dtype, order="F")
        if not found.size:
            return found
        windows = Windows(self.start_time[rows], self.window_s)
        name = self.trains.spike_times
        with OpenFiles() as files:
            stored = name if self.home is None else files[self.home][name]
            batches = self._batches(stored, self.trains.table_rows[units], windows)
            for i, column in enumerate(columns(batches, windows, self.trains.place)):
                found[:, i] = column
        return found

    def _batches(self, stored: Any, table_rows: np.ndarray, windows: Windows) -> Iterator[list[Unit]]:
        begins = np.concatenate([[0], self.trains.ends])
        first_s, last_s = windows.edges[0], windows.edges[-1]
        step = max(self.max_bytes // 8, 1024)

        def pieces(row: int) -> Iterator[np.ndarray]:
            for first, last in self.zones.between(row, first_s, last_s):
                for i in range(begins[row] + first, begins[row] + last, step):
                    yield np.asarray(stored[i : min(i + step, begins[row] + last)], np.float64)

        for i in range(0, len(table_rows), UNITS_PER_BATCH):
            yield [(int(row), pieces(int(row))) for row in table_rows[i : i + UNITS_PER_BATCH]]


class LazyCounts(BackendArray):
    """Spike counts (presentation, unit) that are counted for the rows and columns that they are indexed with.

    Parameters
    ----------
    parts : sequence of Counting
        Of one table of units each.
    part : numpy.ndarray of int
        (presentation,) the table that each presentation is counted in; its own are in order there.
    n_units : int
    observed : numpy.ndarray of bool, optional
        (presentation, unit); counts are 0 where it is false.
    """

    def __init__(
        self,
        parts: Sequence[Counting],
        part: np.ndarray,
        n_units: int,
        observed: np.ndarray | None = None,
    ) -> None:
        self.shape = len(part), n_units
        self.dtype = np.result_type(*(own.dtype for own in parts))
        self._parts, self._part, self._observed = parts, part, observed
        self._row = np.empty(len(part), np.int64)
        for i in range(len(parts)):
            own = part == i
            self._row[own] = np.arange(own.sum())

    def where(self, observed: np.ndarray) -> LazyCounts:
        """Return the same counts, 0 where `observed` (presentation, unit) is false."""
        return LazyCounts(self._parts, self._part, self.shape[1], observed)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        rows, units = (np.atleast_1d(np.arange(n)[own]) for n, own in zip(self.shape, key, strict=True))
        counts = np.empty((len(rows), len(units)), self.dtype, order="F")
        for i, part in enumerate(self._parts):
            own = self._part[rows] == i
            counts[own] = part.counts(self._row[rows[own]], units)
        if self._observed is not None:
            counts[~self._observed[np.ix_(rows, units)]] = 0
        is_one = [not isinstance(own, slice) and np.ndim(own) == 0 for own in key]
        return counts[tuple(0 if one else slice(None) for one in is_one)]
