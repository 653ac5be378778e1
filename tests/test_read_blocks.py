"""Counts and images in blocks have the values of those in memory, read what they need, and need dask."""

import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    add_trials,
    brute_counts,
    index_series,
    new_file,
    picture,
    write,
)
from test_pipeline_evidence import SMALL, population
from test_read_exclusions import STARTS, observed_file
from test_read_layouts import aggregated_file

from nwb_migvis import MigvisError, Study, inspect_session, read_session, read_sessions
from nwb_migvis.read.blocks import Zones

pytest.importorskip("dask")
WINDOW_S = (0.05, 0.15)


@pytest.fixture(autouse=True, scope="module")
def small_zones():
    """Note the times of every eight spikes, so that small trains have several zones."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("nwb_migvis.read.blocks._ZONE", 8)
        yield


@pytest.fixture
def pictured(tmp_path):
    """A file with pictures, in which units fire in no order."""
    return index_series(tmp_path / "a.nwb").path


def is_in_blocks(session):
    return {name for name in session.variables if session[name].chunks is not None}


@pytest.mark.parametrize("size", [1, 5, -1, "auto"])
def test_every_value_is_that_of_the_session_in_memory(pictured, size):
    whole = read_session(pictured, window_s=WINDOW_S)
    found = read_session(pictured, window_s=WINDOW_S, chunks={"presentation": size, "stimulus": size})
    assert is_in_blocks(found) == {"spike_count", "image"}
    assert found.chunksizes["unit"] == (3,) and found.chunksizes["y"] == (6,)
    if size == 5:
        assert found.chunksizes["presentation"] == (5, 5, 2) and found.chunksizes["stimulus"] == (4,)
    assert found["spike_count"].dtype == whole["spike_count"].dtype == np.uint16
    xr.testing.assert_identical(found.compute(), whole)
    xr.testing.assert_identical(read_session(pictured, window_s=WINDOW_S, chunks="auto").compute(), whole)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.floats(0.01, 3))
def test_blocks_count_unsorted_trains_and_windows_that_overlap(tmp_path_factory, seed, is_sorted, width_s):
    rng = np.random.default_rng(seed)
    trains = [rng.uniform(0, 9, n) for n in (200, 1, 0, 37)]
    trains = [np.sort(train) for train in trains] if is_sorted else trains
    starts = rng.permutation(np.linspace(1, 7, 40))
    path = tmp_path_factory.mktemp("trains") / "a.nwb"
    nwb = new_file(trains)
    add_trials(nwb, starts, image=[f"im{k % 4}" for k in range(40)])
    write(nwb, path)
    window_s = (-0.5, width_s)
    read = {"stimulus": "image", "window_s": window_s, "allow_long_window": True}
    found = read_session(path, chunks={"presentation": 7}, **read)["spike_count"]
    expected = brute_counts(trains, starts, window_s)
    np.testing.assert_array_equal(found, expected)
    rows, units = rng.permutation(40)[:9], [3, 0]
    np.testing.assert_array_equal(found.isel(presentation=rows, unit=units), expected[np.ix_(rows, units)])
    np.testing.assert_array_equal(found[5], expected[5])
    assert int(found[5, 0]) == expected[5, 0]


def test_counts_that_need_a_larger_type_have_it_in_every_block(tmp_path):
    train = np.concatenate([[0.5], np.full(70_000, 2.1), [5.0]])
    nwb = new_file([train, np.arange(0, 6, 0.1)])
    add_trials(nwb, [1.0, 2.0, 3.0, 4.0], image=["a", "b", "a", "b"])
    path = write(nwb, tmp_path / "a.nwb")
    read = {"stimulus": "image", "window_s": WINDOW_S}
    whole, found = read_session(path, **read), read_session(path, chunks={"presentation": 1}, **read)
    assert found["spike_count"].dtype == np.uint32
    xr.testing.assert_identical(found.compute(), whole)


def test_units_that_were_not_observed_count_nothing(tmp_path):
    middle = STARTS[6] + 0.02
    path = observed_file(tmp_path / "a.nwb", [[[0, middle]], [[0, 3], [3, 9]], [[STARTS[3], 9]]])
    found = read_session(path, window_s=WINDOW_S, chunks={"presentation": 5})
    assert is_in_blocks(found) == {"spike_count", "image", "observed"}
    xr.testing.assert_identical(found.compute(), read_session(path, window_s=WINDOW_S))
    assert inspect_session(path, window_s=WINDOW_S, chunks="auto") == inspect_session(path, window_s=WINDOW_S)


def test_sessions_of_an_aggregated_file_count_on_their_own_clocks(tmp_path):
    read = {"window_s": WINDOW_S, "stimulus": "stimulus_filename"}
    path = aggregated_file(tmp_path / "a.nwb")
    found = read_session(path, chunks={"presentation": 3}, **read)
    xr.testing.assert_identical(found.compute(), read_session(path, **read))


def test_a_block_reads_the_spikes_of_its_time_alone(tmp_path, monkeypatch):
    train = np.linspace(0, 100, 4000)
    nwb = new_file([train, train])
    add_trials(nwb, np.arange(1.0, 99), image=[f"im{k % 7}" for k in range(98)])
    path = write(nwb, tmp_path / "a.nwb")
    found = read_session(path, stimulus="image", chunks={"presentation": 10})["spike_count"]
    read, get = [], h5py.Dataset.__getitem__

    def noting(dataset, key):
        values = get(dataset, key)
        read.append((dataset.name, np.size(values)))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noting)
    found[:10].compute()
    assert {name for name, _ in read} == {"/units/spike_times"}
    # ten of a hundred seconds, at 40 spikes per second, and at most a zone more at each end
    assert 2 * 9 * 40 <= sum(size for _, size in read) <= 2 * (9.2 * 40 + 16)


def test_blocks_can_be_sent_to_workers(pictured):
    found = read_session(pictured, window_s=WINDOW_S, chunks={"presentation": 5})
    again = pickle.loads(pickle.dumps(found))
    xr.testing.assert_identical(again.compute(), found.compute())


def test_an_open_file_is_read_while_it_is_open(pictured):
    whole = read_session(pictured, window_s=WINDOW_S)
    with h5py.File(pictured, driver="core") as file:
        found = read_session(file, window_s=WINDOW_S, chunks={"presentation": 5})
        np.testing.assert_array_equal(found["spike_count"], whole["spike_count"])
    with pytest.raises(MigvisError, match="was closed; expected it open"):
        found["spike_count"].compute()


def test_several_sessions_share_their_images_in_blocks(pictured):
    read = {"window_s": WINDOW_S, "chunks": {"stimulus": 3}}
    for session in read_sessions([pictured, pictured], **read):
        assert session.chunksizes["stimulus"] == (3, 1)
        np.testing.assert_array_equal(session["image"][2], picture(int(session["stimulus"][2].item()[3:])))


def test_a_study_of_blocks_has_the_results_of_one_in_memory():
    session = population(0, n_stimuli=120)
    told = Study(session, SMALL).run()
    found = Study(session.chunk(presentation=100), SMALL).run()
    assert found.latents.identical(told.latents) and found.groups.equals(told.groups)
    assert found.units.identical(told.units)


def test_a_bad_spike_is_said_before_any_block_is_read(tmp_path):
    nwb = new_file([[1.0, np.nan, 3.0], [1.0, 2.0]])
    add_trials(nwb, [1.0, 2.0], image=["a", "b"])
    path = write(nwb, tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match="row 0: spike_times hold NaN or infinity"):
        read_session(path, stimulus="image", chunks="auto")


@pytest.mark.parametrize(
    ("chunks", "said"),
    [
        (100, 'chunks is 100; expected "auto", or a size per block'),
        ({"presentations": 100}, "chunks has 'presentations'; expected .*did you mean 'presentation'"),
        ({"unit": 10}, "chunks has 'unit'; expected presentation, stimulus"),
        ({"stimulus": 0}, "chunks\\['stimulus'\\] is 0; expected 1 or more, -1 for all"),
        ({"stimulus": 2.5}, "chunks\\['stimulus'\\] is 2.5; expected 1 or more"),
        ({"stimulus": True}, "chunks\\['stimulus'\\] is True; expected 1 or more"),
    ],
)
def test_chunks_that_cannot_be_are_refused_before_the_file_is_opened(tmp_path, chunks, said):
    with pytest.raises(MigvisError, match=said):
        read_session(tmp_path / "absent.nwb", chunks=chunks)


def test_without_dask_the_extra_is_named(pictured, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(MigvisError, match=r"dask not installed; .*'nwb-migvis\[cluster\]'"):
        read_session(pictured, chunks="auto")


def test_zones_hold_all_spikes_of_a_time():
    zones, times = Zones(), np.array([5.0, 1, 9, 9, 9, 9, 9, 9, 3, 3, 3, 3, 3, 3, 3, 3, 0.5])
    list(zones.watching(4, [times]))
    assert zones.between(4, 0.6, 2.0) == [(0, 8)]
    assert zones.between(4, 3.0, 3.0) == [(0, 16)]
    assert zones.between(4, 0.0, 0.9) == [(16, 17)]
    assert zones.between(4, 0.0, 1.0) == [(0, 8), (16, 17)]
    assert zones.between(4, 9.1, 20.0) == []
