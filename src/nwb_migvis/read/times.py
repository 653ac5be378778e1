"""Whether the times of presentations and spikes are on one clock, in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.presentations import Presentations
from nwb_migvis.read.table import ROUNDING_S, span

_NEAR_S = 1.0
_LEAST_INSIDE = 0.5
_LEAST_RATE_HZ = 0.1
_SLOW_RATE_HZ = 1.0
_MOST_SPAN_RATIO = 100.0
_LONG_SPAN_S = 600.0
_LEAST_SPIKES = 20
_LEAST_PRESENTATIONS = 10
_SAMPLES_PER_PIECE = 64
_TOUCH_S = 1e-6


@dataclass
class SpikeSpan:
    """When the counted units fire: what is noted of spike times while they are counted.

    Of every piece of a train some 64 values are looked at.

    Attributes
    ----------
    extremes : list of (float, float)
        Least and greatest value of each piece.
    n_whole, n_seen : int
        How many of the values looked at are whole numbers, and how many there are.
    """

    extremes: list[tuple[float, float]] = field(default_factory=list)
    n_whole: int = 0
    n_seen: int = 0

    def watching(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield pieces of a train, (spike,) float64 each, noting what they hold."""
        for times in pieces:
            some = times[:: max(1, len(times) // _SAMPLES_PER_PIECE)]
            if len(some):
                self.extremes.append((some.min(), some.max()))
                self.n_whole += int((some == np.floor(some)).sum())
                self.n_seen += len(some)
            yield times

    @property
    def limits(self) -> tuple[float, float]:
        """First and last spike looked at, seconds."""
        return min(low for low, _ in self.extremes), max(high for _, high in self.extremes)


def check_starts(
    reading: Presentations, *, window_s: tuple[float, float], allow_long_window: bool = False
) -> None:
    """Refuse presentations that begin at one moment, that go back in time, or that windows cover twice.

    Presentations with clocks of their own are looked at apart.

    Raises
    ------
    MigvisError
    """
    clocks = reading.unit_table_index
    intervals = []
    for clock in [0] if clocks is None else np.unique(clocks):
        starts = reading.start_time if clocks is None else reading.start_time[clocks == clock]
        order = np.argsort(starts, kind="stable")
        gaps = np.diff(starts[order])
        begins_moment = np.append(True, gaps > ROUNDING_S + reading.precision_s)
        intervals.append(gaps[begins_moment[1:]])
        _check_moments(reading.place, starts, order, begins_moment)
    interval_s = np.concatenate(intervals)
    if not len(interval_s) or allow_long_window:
        return
    length_s, median_s = window_s[1] - window_s[0], float(np.median(interval_s))
    if length_s > median_s + ROUNDING_S + reading.precision_s:
        raise MigvisError(
            f"{reading.place}: presentations begin {median_s:.4g} s apart (median; "
            f"{span(reading.start_time)}), "
            f"and the window [{window_s[0]:g}, {window_s[1]:g}) s is longer, so that spikes count for "
            f"several; "
            "expected starts in seconds: correct them, choose a shorter window, or allow it with "
            "allow_long_window=True (--allow-long-window)"
        )


def _check_moments(place: str, starts: np.ndarray, order: np.ndarray, begins_moment: np.ndarray) -> None:
    """Refuse starts of one clock that are all the same, or that come back to moments long past."""
    if len(starts) > 1 and begins_moment.sum() == 1:
        raise MigvisError(
            f"{place}: all {len(starts)} presentations begin at one moment ({span(starts)}); expected "
            "seconds on the session's clock: correct the file, whose starts may count from each trial's own"
        )
    first = np.flatnonzero(begins_moment)
    n_rows = np.diff(np.append(first, len(order)))
    extent = np.maximum.reduceat(order, first) - np.minimum.reduceat(order, first) + 1
    n_again = int(n_rows[extent > n_rows].sum())
    if n_again > 0.5 * len(starts):
        raise MigvisError(
            f"{place}: {n_again} of {len(starts)} presentations begin at a moment ({span(starts)}) at which "
            "others, rows apart, begin too; expected seconds on the session's clock: correct the file, whose "
            "starts may count from each trial's own"
        )


def check_spikes(reading: Presentations, spike_span: SpikeSpan, *, n_spikes: np.ndarray, place: str) -> bool:
    """Refuse spike times that cannot be seconds on the clock of the presentations.

    Parameters
    ----------
    reading : Presentations
        Of one clock.
    spike_span : SpikeSpan
        Of the units counted.
    n_spikes : numpy.ndarray
        (row,) spikes of each unit of the table, counted or not.
    place : str
        Name of the units' table.

    Returns
    -------
    bool
        Whether most presentations lie within the spikes looked at; else all spikes have to be looked at.

    Raises
    ------
    MigvisError
    """
    if not spike_span.extremes or not len(reading.start_time):
        return True
    low, high = spike_span.limits
    spans = (
        f"(spikes {low:.10g} to {high:.10g} s, presentations in {reading.place} {span(reading.start_time)})"
    )
    advice = "expected both in seconds on one clock: correct the file"
    if spike_span.n_seen >= _LEAST_SPIKES and spike_span.n_whole == spike_span.n_seen:
        raise MigvisError(f"{place}: all spike times are whole numbers, as samples are {spans}; {advice}")
    rate_hz = n_spikes.max() / max(high - low, 1e-9)
    shown_s = float(np.ptp(reading.start_time))
    is_enough = n_spikes.max() >= _LEAST_SPIKES and len(reading.start_time) >= _LEAST_PRESENTATIONS
    is_stretched = high - low > _MOST_SPAN_RATIO * shown_s and rate_hz < _SLOW_RATE_HZ
    if is_enough and (is_stretched or (rate_hz < _LEAST_RATE_HZ and high - low > _LONG_SPAN_S)):
        raise MigvisError(
            f"{place}: the busiest unit fires {rate_hz:.2g} times per second {spans}, as if its spike "
            f"times were milliseconds or samples; {advice}"
        )
    is_inside = (reading.start_time >= low - _NEAR_S) & (reading.start_time <= high + _NEAR_S)
    return bool(is_inside.mean() >= _LEAST_INSIDE)


def check_inside(
    reading: Presentations, limits: tuple[float, float], *, n_spikes: int, n_counted: int, place: str
) -> None:
    """Refuse presentations most of which begin over a second before or after all spikes, or without any.

    Parameters
    ----------
    reading : Presentations
        Of one clock.
    limits : (float, float)
        First and last spike, seconds.
    n_spikes : int
        Spikes of all units.
    n_counted : int
        Spikes in all windows.
    place : str
        Name of the units' table.

    Raises
    ------
    MigvisError
    """
    low, high = limits
    spans = (
        f"(spikes {low:.10g} to {high:.10g} s, presentations in {reading.place} {span(reading.start_time)})"
    )
    advice = "expected both in seconds on one clock: correct the file, or choose other units"
    is_outside = (reading.start_time < low - _NEAR_S) | (reading.start_time > high + _NEAR_S)
    least = _LEAST_INSIDE if n_spikes >= len(is_outside) else 0.0  # few spikes are near few presentations
    if is_outside.all() or is_outside.mean() > 1 - least:
        raise MigvisError(
            f"{place}: {int(is_outside.sum())} of {len(is_outside)} presentations have no spike of any "
            f"unit near them {spans}; {advice}"
        )
    if not n_counted:
        raise MigvisError(
            f"{place}: no spike of any unit lies in a window after any of {len(is_outside)} presentations "
            f"{spans}; {advice}"
        )


def is_within(times: np.ndarray, window_s: tuple[float, float], intervals: np.ndarray) -> np.ndarray:
    """Return whether each window lies wholly within one interval, (presentation,) bool.

    Parameters
    ----------
    times : numpy.ndarray
        (presentation,) onsets, seconds.
    window_s : (float, float)
    intervals : numpy.ndarray
        (interval, 2) seconds, in any order; those that touch or overlap are one.
    """
    first, last = _merged(intervals)
    row = np.searchsorted(first, times + window_s[0] + _TOUCH_S, side="right") - 1
    return (row >= 0) & (times + window_s[1] <= last[row.clip(0)] + _TOUCH_S) if len(first) else row >= 0


def overlaps(times: np.ndarray, window_s: tuple[float, float], intervals: np.ndarray) -> np.ndarray:
    """Return whether an onset or any part of its window lies in an interval, (presentation,) bool."""
    first, last = _merged(intervals)
    begin, end = times + min(window_s[0], 0.0), times + max(window_s[1], 0.0)
    row = np.searchsorted(first, end, side="left") - 1
    return (row >= 0) & (last[row.clip(0)] > begin) if len(first) else np.zeros(len(times), bool)


def _merged(intervals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and stops of intervals in order, those that touch or overlap as one."""
    intervals = intervals[np.argsort(intervals[:, 0], kind="stable")]
    if not len(intervals):
        return intervals[:, 0], intervals[:, 1]
    until = np.maximum.accumulate(intervals[:, 1])
    begins = np.append(True, intervals[1:, 0] > until[:-1] + _TOUCH_S)
    last = np.append(np.flatnonzero(begins)[1:] - 1, len(intervals) - 1)
    return intervals[begins, 0], until[last]


def limits_of(pieces: Iterable[np.ndarray]) -> tuple[float, float]:
    """Return the least and greatest of all times in pieces, seconds."""
    extremes = [(float(times.min()), float(times.max())) for times in pieces if len(times)]
    return min(low for low, _ in extremes), max(high for _, high in extremes)
