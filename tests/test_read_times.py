"""Times of presentations and spikes that cannot be on one clock in seconds are refused, never counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import WINDOW_S, add_intervals, add_trials, brute_counts, index_series, new_file, write

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session

N = 60
STARTS = 5 + np.cumsum(np.random.default_rng(1).uniform(0.3, 0.5, N))
NAMES = [f"im{k}" for k in np.random.default_rng(2).integers(0, 6, N)]


def trains(n_units=4, rate_hz=20.0):
    rng = np.random.default_rng(3)
    until = STARTS[-1] + 3
    return [np.sort(rng.uniform(0, until, int(until * rate_hz))) for _ in range(n_units)]


def table(path, starts, spikes=None, **columns):
    nwb = new_file(trains() if spikes is None else spikes)
    add_intervals(nwb, "shows", np.asarray(starts, np.float64), image_name=NAMES[: len(starts)], **columns)
    return write(nwb, path)


def refused(path, **reading) -> str:
    with pytest.raises(MigvisError) as error:
        read_session(path, stimulus="image_name", **reading)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "starts",
    [
        STARTS * 1e3,
        STARTS * 3e4,
        STARTS + 1.7e9,
        STARTS - 1e4,
        np.zeros(N),
        np.full(N, 20.0),
        np.tile(0.4 * np.arange(10), N // 10),
        STARTS % 1.0,
    ],
    ids=["ms", "samples", "unix", "before", "zero", "one moment", "in trials", "within a second"],
)
def test_presentations_on_another_clock(tmp_path, starts):
    message = refused(table(tmp_path / "a.nwb", starts))
    assert "shows" in message
    assert "expected" in message


@pytest.mark.parametrize("scale", [1e3, 3e4])
@pytest.mark.parametrize("rounded", [False, True])
def test_spikes_in_other_units(tmp_path, scale, rounded):
    spikes = [train * scale for train in trains()]
    spikes = [np.round(train) for train in spikes] if rounded else spikes
    message = refused(table(tmp_path / "a.nwb", STARTS, spikes))
    assert "spikes" in message
    assert "presentations in shows" in message


@pytest.mark.parametrize("spikes", [[t % 1.0 for t in trains()], [t + 500 for t in trains()]])
def test_spikes_within_trials_or_later(tmp_path, spikes):
    assert "no spike of any unit near" in refused(table(tmp_path / "a.nwb", STARTS, spikes))


@pytest.mark.parametrize("onset", [np.full(N, 0.05), (STARTS + 0.05) * 1e3, STARTS + 0.3, STARTS - 0.01])
def test_onsets_outside_their_own_rows(tmp_path, onset):
    path = table(tmp_path / "a.nwb", STARTS, stim_on_time=onset)
    assert "stim_on_time lies outside its own row" in refused(path)


def test_onsets_inside_their_rows_are_read(tmp_path):
    path = table(tmp_path / "a.nwb", STARTS, stim_on_time=STARTS + 0.05)
    session = read_session(path, stimulus="image_name", window_s=WINDOW_S)
    np.testing.assert_array_equal(session["spike_count"], brute_counts(trains(), STARTS + 0.05, WINDOW_S))


@settings(max_examples=25, deadline=None)
@given(
    scale=st.sampled_from([1.0, 1e3, 2.5e4, 3e4]),
    shift=st.sampled_from([0.0, 1e3, -1e3, 1.7e9]),
    period=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_a_table_that_was_changed_is_refused_or_read_right(tmp_path_factory, scale, shift, period):
    starts = STARTS * scale + shift
    if period:
        starts = starts % (period * scale)
    path = table(tmp_path_factory.mktemp("changed") / "a.nwb", starts)
    try:
        session = read_session(path, stimulus="image_name", window_s=WINDOW_S)
    except MigvisError:
        assert (scale, shift, period) != (1.0, 0.0, 0.0)
    else:
        np.testing.assert_array_equal(session["spike_count"], brute_counts(trains(), STARTS, WINDOW_S))


@pytest.mark.parametrize("window_s", [(70, 170), (0.0, 2.5), (-3.0, 0.1), (0.0, 0.6)])
def test_long_windows_need_leave(tmp_path, window_s):
    path = table(tmp_path / "a.nwb", STARTS)
    assert "--allow-long-window" in refused(path, window_s=window_s)
    if window_s[1] < 3:
        session = read_session(path, stimulus="image_name", window_s=window_s, allow_long_window=True)
        np.testing.assert_array_equal(session["spike_count"], brute_counts(trains(), STARTS, window_s))


def test_single_precision_finds_its_own_row(tmp_path):
    """At 9,000 s a single is 1 ms wide; the row before ends where the next begins."""
    nwb_starts = 9000 + 0.2503 * np.arange(12)
    truth = index_series(tmp_path / "a.nwb", start_time=nwb_starts, trains=[nwb_starts + 0.1])
    from layouts import edited

    def add(nwb):
        add_trials(nwb, nwb_starts.astype(np.float32), duration_s=0.2503, number=[k * 1.0 for k in range(12)])

    session = read_session(edited(truth.path, tmp_path / "b.nwb", add))
    assert session["number"].values.tolist() == list(range(12))


@pytest.mark.parametrize("early_s", [0.0003, 0.005])
def test_a_presentation_just_before_a_row_is_not_of_the_row_before(tmp_path, early_s):
    starts = 5 + 0.25 * np.arange(12)
    truth = index_series(tmp_path / "a.nwb", start_time=starts, trains=[starts + 0.1])
    from layouts import edited

    def add(nwb):
        add_trials(nwb, starts + early_s, duration_s=0.25, number=[k * 1.0 for k in range(12)])

    session = read_session(edited(truth.path, tmp_path / "b.nwb", add))
    assert "number" not in session.coords
