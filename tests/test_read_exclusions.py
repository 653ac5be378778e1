"""What the file says is not to be analysed is not counted."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import (
    SHOWN,
    WINDOW_S,
    brute_counts,
    edited,
    image_container,
    index_series,
    new_file,
    picture,
    spike_trains,
    start_times,
    write,
)
from pynwb.image import IndexSeries

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import describe, inspect_session, read_session

STARTS = start_times()


def with_invalid(tmp_path, *intervals):
    def add(nwb):
        for first, last in intervals:
            nwb.add_invalid_time_interval(first, last)

    return edited(index_series(tmp_path / "a.nwb").path, tmp_path / "b.nwb", add)


@pytest.mark.parametrize(
    ("intervals", "dropped"),
    [
        ([(STARTS[2] - 0.01, STARTS[4] + 0.01)], [2, 3, 4]),
        ([(STARTS[2] + 0.14, STARTS[2] + 0.15)], [2]),
        ([(STARTS[2] + 0.16, STARTS[3] - 0.01)], []),
        ([(STARTS[5], STARTS[6] + 0.1), (STARTS[5] - 0.01, STARTS[5] + 0.01)], [5, 6]),
    ],
)
def test_invalid_times(tmp_path, intervals, dropped):
    session = read_session(with_invalid(tmp_path, *intervals), window_s=WINDOW_S)
    expected = np.delete(STARTS, dropped)
    np.testing.assert_array_equal(session["start_time"], expected)
    assert session.attrs["dropped"] == ({"in invalid_times": len(dropped)} if dropped else {})
    np.testing.assert_array_equal(session["spike_count"], brute_counts(spike_trains(), expected, WINDOW_S))


def test_nothing_valid(tmp_path):
    with pytest.raises(MigvisError, match="all presentations lie in invalid_times"):
        read_session(with_invalid(tmp_path, (0.0, 100.0)))


def observed_file(path, intervals):
    nwb = new_file([])
    nwb.units = None
    for train, own in zip(spike_trains(), intervals, strict=True):
        nwb.add_unit(spike_times=np.sort(train), obs_intervals=np.array(own, dtype=float).reshape(-1, 2))
    container = image_container({f"pic{k}": picture(k) for k in range(4)})
    nwb.add_stimulus_template(container)
    data = np.array(SHOWN, np.uint32)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=STARTS)
    )
    return write(nwb, path)


def test_a_unit_that_was_not_observed_has_no_count(tmp_path):
    middle = STARTS[6] + 0.02
    path = observed_file(tmp_path / "a.nwb", [[[0, middle]], [[0, 3], [3, 9]], [[STARTS[3], 9]]])
    session = read_session(path, window_s=WINDOW_S)
    observed = session["observed"].values
    assert observed[:, 0].tolist() == [k < 6 for k in range(12)]
    assert observed[:, 1].all()
    assert observed[:, 2].tolist() == [k >= 3 for k in range(12)]
    expected = brute_counts(spike_trains(), STARTS, WINDOW_S)
    np.testing.assert_array_equal(session["spike_count"], np.where(observed, expected, 0))
    inspected = inspect_session(path, window_s=WINDOW_S)
    assert inspected["n_units_not_always_observed"] == 2
    assert "2 units not throughout" in describe(inspected)


def test_units_that_were_always_observed_need_no_mask(tmp_path):
    path = observed_file(tmp_path / "a.nwb", [[[0, 9]], [[0, 4], [2, 9]], [[0, 9]]])
    assert "observed" not in read_session(path)


def test_presentations_without_any_unit_are_dropped(tmp_path):
    path = observed_file(tmp_path / "a.nwb", [[[0, STARTS[6]]]] * 3)
    session = read_session(path, window_s=WINDOW_S)
    assert session.attrs["dropped"] == {"no unit was observed": 6}
    assert "observed" not in session
    with pytest.raises(MigvisError, match="within the obs_intervals of any unit"):
        read_session(observed_file(tmp_path / "b.nwb", [[[0, 0.5]]] * 3))
