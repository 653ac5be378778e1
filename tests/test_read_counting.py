"""Counts in half-open windows are exact."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from layouts import brute_counts

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import count_spikes
from nwb_migvis.read.compiled import has_numba

LOOPS = [
    pytest.param(False, id="numpy"),
    pytest.param(
        True, id="compiled", marks=pytest.mark.skipif(not has_numba(), reason="numba is not installed")
    ),
]

seconds = st.floats(-50, 50, allow_nan=False) | st.integers(-20, 20).map(lambda k: k / 10)
windows = st.tuples(seconds, seconds).filter(lambda w: w[0] < w[1])


@pytest.fixture(params=LOOPS)
def loop(request, monkeypatch):
    """Count with numpy alone, or in the compiled loop whatever the number of spikes."""
    monkeypatch.setattr("nwb_migvis.read.counting.WORTH_COMPILING", 0 if request.param else 10**12)


pytestmark = pytest.mark.usefixtures("loop")


def counted(trains, start_time, window_s, **options):
    ends = np.cumsum([len(train) for train in trains])
    times = np.concatenate([np.asarray(train, np.float64) for train in trains])
    return count_spikes(times, ends, np.asarray(start_time, np.float64), window_s=window_s, **options)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(seconds, max_size=40), min_size=1, max_size=4), st.lists(seconds, max_size=20), windows
)
@example([[0.3, 0.1 + 0.2, 0.2]], [0.1, 0.1, 0.0], (0.1, 0.2))
@example([[0.0] * 30], [0.0, -0.1], (0.0, 0.1))
@example([[1e300, -1e300, 5e-324, 0.05]], [0.0, 1.0], (0.0, 0.1))
def test_counts_equal_one_comparison_at_a_time(trains, start_time, window_s):
    expected = brute_counts(trains, start_time, window_s)
    np.testing.assert_array_equal(counted(trains, start_time, window_s), expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 5) | st.floats(1e-3, 0.099), st.booleans())
def test_spikes_on_the_edges_of_regular_windows(seed, width, is_in_order):
    rng = np.random.default_rng(seed)
    start_time = np.arange(50) * 0.1
    if not is_in_order:
        start_time = rng.permutation(start_time)
    edges = np.concatenate([start_time + 0.05, start_time + (0.05 + width)])
    nudged = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    trains = [rng.choice(nudged, 200), nudged]
    window_s = (0.05, 0.05 + width)
    expected = brute_counts(trains, start_time, window_s)
    np.testing.assert_array_equal(counted(trains, start_time, window_s), expected)


def test_windows_that_crowd_together_and_apart():
    """Long gaps put many edges in one cell of the counter's grid."""
    rng = np.random.default_rng(0)
    start_time = np.concatenate([rng.uniform(0, 1e-3, 300), [1e6], rng.uniform(2e6, 2e6 + 1, 50)])
    trains = [np.concatenate([rng.uniform(0, 0.5, 300), [1e6 + 0.1], rng.uniform(2e6, 2e6 + 2, 300)])]
    expected = brute_counts(trains, start_time, (0.05, 0.2))
    assert expected.max() > 50
    np.testing.assert_array_equal(counted(trains, start_time, (0.05, 0.2)), expected)


@pytest.mark.parametrize("max_bytes", [1, 2**14, 2**28])
@pytest.mark.parametrize("on_disk", [False, True])
def test_pieces_do_not_change_the_counts(tmp_path, max_bytes, on_disk):
    rng = np.random.default_rng(1)
    trains = [rng.uniform(0, 20, n) for n in (5000, 0, 3, 1500, 1)]
    start_time = rng.uniform(0, 19, 40)
    ends = np.cumsum([len(train) for train in trains])
    times = np.concatenate(trains)
    expected = np.stack(
        [((t >= start_time[:, None] + 0.1) & (t < start_time[:, None] + 0.4)).sum(1) for t in trains], 1
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        source = file.create_dataset("t", data=times, chunks=(100,)) if on_disk else times
        found = count_spikes(source, ends, start_time, window_s=(0.1, 0.4), max_bytes=max_bytes)
    np.testing.assert_array_equal(found, expected)
    some = count_spikes(times, ends, start_time, window_s=(0.1, 0.4), rows=np.array([3, 0]))
    np.testing.assert_array_equal(some, expected[:, [3, 0]])


def test_more_units_than_one_block_and_spikes_than_16_bits():
    trains = [np.full(k, 0.5) for k in range(70)]
    found = counted(trains, [0.0, 1.0], (0.0, 1.0))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, [np.arange(70), np.zeros(70)])
    many = counted([*trains, np.full(70_000, 0.5)], [0.0, 1.0], (0.0, 1.0))
    assert many.dtype == np.uint32
    np.testing.assert_array_equal(many[0], [*range(70), 70_000])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_spike_times_that_are_no_times(bad):
    with pytest.raises(MigvisError, match="row 1: spike_times hold NaN or infinity"):
        counted([[0.1], [0.2, bad]], [0.0], (0.0, 1.0))


@pytest.mark.parametrize(
    "window_s", [(0.2, 0.1), (0.1, 0.1), (0.0, np.inf), (np.nan, 1.0), (1, 2, 3), "ab", None]
)
def test_windows_that_are_none(window_s):
    with pytest.raises(MigvisError, match="window"):
        counted([[0.1]], [0.0], window_s)
