"""Readings that agree are one; readings that disagree are an error that says how to choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import (
    N_IMAGES,
    SHOWN,
    WINDOW_S,
    Truth,
    add_intervals,
    add_trials,
    check,
    image_container,
    index_series,
    new_file,
    picture,
    start_times,
    write,
)
from pynwb.image import IndexSeries

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session
from nwb_migvis.read.joining import CLOSE_S, match_rows
from nwb_migvis.read.table import ROUNDING_S

NAMES = [f"pic{k}" for k in range(N_IMAGES)]


def two_readings(path, *, shift_s=0.0, names=None, index=SHOWN, n_rows=12):
    """Write an IndexSeries and trials with an image_name that may differ from it."""
    nwb = new_file()
    container = image_container({name: picture(k) for k, name in enumerate(NAMES)})
    nwb.add_stimulus_template(container)
    data = np.array(index).astype(np.uint64)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=start_times())
    )
    names = [NAMES[k] for k in SHOWN] if names is None else names
    columns = {"image_name": names[:n_rows], "contrast": np.arange(n_rows) / 2}
    add_trials(nwb, start_times()[:n_rows] + shift_s, **columns)
    pixels = {name: picture(k) for k, name in enumerate(NAMES)}
    return Truth(write(nwb, path), start_times(), [NAMES[k] for k in SHOWN], pixels)


@pytest.mark.parametrize("shift_s", [0.0, 9e-5, -9e-5, -0.05])
def test_series_and_table_within_the_tolerance_or_containing_are_one(tmp_path, shift_s):
    truth = two_readings(tmp_path / "a.nwb", shift_s=shift_s)
    session = read_session(truth.path, window_s=WINDOW_S)
    check(session, truth)
    assert session.attrs["layout"] == "index_series"
    assert session["contrast"].values.tolist() == (np.arange(len(SHOWN)) / 2).tolist()


def test_other_names_for_the_same_images_are_no_disagreement(tmp_path):
    truth = two_readings(tmp_path / "a.nwb", names=[f"file_{'wxyz'[k]}.png" for k in SHOWN])
    check(read_session(truth.path, window_s=WINDOW_S), truth)


OTHER = [NAMES[k] for k in SHOWN]
SWAPPED = [NAMES[(k + 1) % N_IMAGES] for k in SHOWN]
ONE_WRONG = ["pic0", *OTHER[1:]]
COARSE = ["left" if k < 2 else "right" for k in SHOWN]
BLANK_INDEX = [N_IMAGES, *SHOWN[1:]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift_s": 0.15}, r"\d+ of shown are not in trials"),
        ({"shift_s": 4.0}, "12 of shown are not in trials, first at 1"),
        ({"n_rows": 10}, "2 of shown are not in trials"),
        ({"names": SWAPPED}, "image 'pic0' of shown is 'pic1' in trials"),
        ({"names": ONE_WRONG}, "image 'pic2' of shown is 2 images in trials"),
        ({"names": COARSE}, "image 'left' of trials is 2 images in shown"),
        ({"index": BLANK_INDEX}, r"1 are blank \(no such image\) in shown but not in trials"),
        ({"names": ["omitted", *OTHER[1:]]}, r"1 are blank \(no such image\) in trials but not in shown"),
    ],
)
def test_disagreement_is_an_error_that_layout_resolves(tmp_path, options, message):
    truth = two_readings(tmp_path / "a.nwb", **options)
    with pytest.raises(MigvisError, match=message) as error:
        read_session(truth.path)
    assert "layout='index_series:shown' or layout='intervals:trials'" in str(error.value)
    for layout in ("index_series", "shown", "index_series:shown"):
        session = read_session(truth.path, layout=layout)
        assert session.attrs["layout"] == "index_series"
        assert session.attrs["found_in"] == "shown"
    other = read_session(truth.path, layout="trials", stimulus="image_name")
    assert other.attrs["layout"] == "intervals"
    named = [name for name in options.get("names", OTHER) if name != "omitted"]
    assert other.sizes["presentation"] == len(named[: options.get("n_rows")])


def test_rows_of_a_table_that_the_series_lacks(tmp_path):
    nwb_path = two_readings(tmp_path / "a.nwb", index=SHOWN).path
    nwb = new_file()
    container = image_container({name: picture(k) for k, name in enumerate(NAMES)})
    nwb.add_stimulus_template(container)
    series = IndexSeries(
        name="shown",
        data=np.array(SHOWN[:5], np.uint8),
        indexed_images=container,
        unit="N/A",
        timestamps=start_times()[:5],
    )
    nwb.add_stimulus(series)
    add_trials(nwb, start_times(), image_name=OTHER)
    with pytest.raises(MigvisError, match="7 of trials are not in shown"):
        read_session(write(nwb, nwb_path))


def test_two_series_are_two_readings(tmp_path):
    nwb = new_file()
    for name, first in (("morning", 0), ("evening", 6)):
        container = image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)}, name=f"{name}_images")
        nwb.add_stimulus_template(container)
        nwb.add_stimulus(
            IndexSeries(
                name=name,
                data=np.array(SHOWN[first : first + 6], np.uint8),
                indexed_images=container,
                unit="N/A",
                timestamps=start_times()[first : first + 6],
            )
        )
    path = write(nwb, tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match="index_series:evening and index_series:morning give different"):
        read_session(path)
    session = read_session(path, layout="morning", window_s=WINDOW_S)
    np.testing.assert_array_equal(session["start_time"], start_times()[:6])


def test_layout_that_is_not_there(tmp_path):
    truth = two_readings(tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match="expected one of index_series:shown, intervals:trials"):
        read_session(truth.path, layout="allen")


def test_columns_of_two_tables_that_share_a_name(tmp_path):
    nwb = new_file()
    container = image_container({name: picture(k) for k, name in enumerate(NAMES)})
    nwb.add_stimulus_template(container)
    data = np.array(SHOWN, np.uint8)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=start_times())
    )
    add_trials(nwb, start_times(), phase=np.arange(12.0), same=np.arange(12))
    add_intervals(nwb, "screens", start_times(), phase=np.arange(12.0) + 0.5, same=np.arange(12))
    session = read_session(write(nwb, tmp_path / "a.nwb"))
    assert session["phase"].values.tolist() == list(np.arange(12.0))
    assert session["screens_phase"].values.tolist() == list(np.arange(12.0) + 0.5)
    assert "screens_same" not in session.coords


times = st.integers(0, 700).map(lambda k: k * 3e-5)
"""Their differences are never a limit of the rule itself, where rounding would decide."""


@settings(max_examples=200, deadline=None)
@given(st.lists(times, max_size=8), st.lists(st.tuples(times, times), max_size=8))
def test_rows_are_matched_as_the_contract_says(starts, intervals):
    """The nearest start within 0.1 ms, else the latest interval that contains the time, unless a row "
    "is near."""
    tolerance = ROUNDING_S
    start = np.array([a for a, _ in intervals])
    stop = np.array([a + b for a, b in intervals])
    found = match_rows(np.array(starts), start, stop)
    for t, row in zip(starts, found, strict=True):
        near = np.abs(start - t)
        inside = (start - tolerance <= t) & (t <= stop + tolerance)
        if len(start) and near.min() <= tolerance:
            assert near[row] == pytest.approx(near.min(), abs=1e-12)
        elif inside.any() and not ((start >= t) & (start <= t + CLOSE_S)).any():
            assert inside[row]
            assert start[row] == start[inside].max()
        else:
            assert row == -1


def test_invalid_times_match_nothing():
    start = np.array([np.nan, 1.0, 3.0])
    stop = np.array([2.0, np.nan, 4.0])
    found = match_rows(np.array([np.nan, 1.0, 1.5, 3.5, 0.0]), start, stop)
    assert found.tolist() == [-1, 1, -1, 2, -1]


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(len(SHOWN))), st.permutations(range(3)))
def test_series_read_the_same_whatever_the_order_of_presentations_and_units(tmp_path_factory, rows, units):
    tmp_path = tmp_path_factory.mktemp("orders")
    truth = index_series(tmp_path / "a.nwb", trials={"category": ["ab"[k % 2] for k in SHOWN]})
    session = read_session(truth.path, window_s=WINDOW_S)
    shuffled = index_series(
        tmp_path / "b.nwb",
        index=[SHOWN[i] for i in rows],
        start_time=truth.start_time[rows],
        trains=[truth.trains[j] for j in units],
        trials={"category": ["ab"[SHOWN[i] % 2] for i in rows]},
    )
    other = read_session(shuffled.path, window_s=WINDOW_S)
    np.testing.assert_array_equal(other["spike_count"], session["spike_count"].values[rows][:, units])
    np.testing.assert_array_equal(other["stimulus_index"], session["stimulus_index"].values[rows])
    np.testing.assert_array_equal(other["stimulus"], session["stimulus"])
    np.testing.assert_array_equal(other["category"], session["category"])
    np.testing.assert_array_equal(other["image"], session["image"])
