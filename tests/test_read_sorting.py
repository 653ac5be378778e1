"""Sessions from SpikeInterface objects."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from layouts import N_IMAGES, SHOWN, brute_counts, image_folder, picture, start_times

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import session_from_sorting

core = pytest.importorskip("spikeinterface.core")


def presentations(**columns):
    return pd.DataFrame({"start_time": start_times(), "stimulus": [f"im{k}" for k in SHOWN], **columns})


@pytest.fixture(scope="module")
def recording_and_sorting():
    return core.generate_ground_truth_recording(durations=[6.0], num_units=4, num_channels=4, seed=0)


def trains_of(sorting):
    return [sorting.get_unit_spike_train(unit, return_times=True) for unit in sorting.unit_ids]


def test_counts_of_a_sorting(recording_and_sorting, tmp_path):
    _, sorting = recording_and_sorting
    folder = image_folder(tmp_path, {f"im{k}.png": k for k in range(N_IMAGES)})
    session = session_from_sorting(sorting, presentations(), folder, window_s=(0.05, 0.15))
    expected = brute_counts(trains_of(sorting), start_times(), (0.05, 0.15))
    assert expected.sum() > 0
    np.testing.assert_array_equal(session["spike_count"], expected)
    assert session["unit"].values.tolist() == list(sorting.unit_ids)
    assert session["stimulus"].values[session["stimulus_index"]].tolist() == [f"im{k}" for k in SHOWN]
    np.testing.assert_array_equal(session["image"][1], picture(1))
    assert session.attrs["layout"] == "sorting"


def test_without_images_there_are_no_pixels(recording_and_sorting):
    session = session_from_sorting(recording_and_sorting[1], presentations())
    assert "image" not in session


def test_columns_are_labels_or_stay_with_the_presentations(recording_and_sorting):
    table = presentations(
        kind=["xyxy"[k] for k in SHOWN],
        size=pd.array([[1, 1, 2, None][k] for k in SHOWN], dtype="Int64"),
        correct=[k != 5 for k in range(12)],
    )
    table.loc[3, "stimulus"] = None
    session = session_from_sorting(recording_and_sorting[1], table, where="correct")
    assert session.attrs["n_blank"] == 1
    assert session.attrs["dropped"] == {"correct is not true": 1}
    assert session["kind"].values.tolist() == ["x", "y", "x", "y"]
    np.testing.assert_array_equal(session["size"], [1, 1, 2, np.nan])


def test_numbered_stimuli(recording_and_sorting):
    table = presentations().assign(stimulus=[*SHOWN[:-1], -1])
    session = session_from_sorting(recording_and_sorting[1], table)
    assert session["stimulus"].values.tolist() == ["0", "1", "2", "3"]
    assert session.attrs["n_blank"] == 1


def test_an_analyzer_counts_on_its_recordings_clock_and_is_queried_by_metrics(recording_and_sorting):
    recording, sorting = recording_and_sorting
    shifted = recording.clone()
    shifted.shift_times(0.5)
    analyzer = core.create_sorting_analyzer(sorting, shifted, format="memory", sparse=False)
    analyzer.compute(["random_spikes", "noise_levels", "templates"], verbose=False)
    analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate"], verbose=False)
    snr = analyzer.get_extension("quality_metrics").get_data()["snr"]
    limit = snr.median()
    table = presentations().assign(start_time=start_times() + 0.5)
    session = session_from_sorting(analyzer, table, unit_query=f"snr > {limit} and firing_rate > 0")
    kept = [unit for unit in sorting.unit_ids if snr[unit] > limit]
    assert session["unit"].values.tolist() == kept
    trains = [sorting.get_unit_spike_train(unit, return_times=True) + 0.5 for unit in kept]
    np.testing.assert_array_equal(
        session["spike_count"], brute_counts(trains, table["start_time"], (0.07, 0.17))
    )


@pytest.mark.parametrize(
    ("table", "reading", "message"),
    [
        (presentations().rename(columns={"stimulus": "image"}), {}, "no column 'stimulus'"),
        (presentations().rename(columns={"start_time": "time"}), {}, "no column 'start_time'"),
        (presentations().assign(start_time="early"), {}, "start_time must be numbers"),
        (presentations(), {"unit_query": "snr > 5"}, "'snr' is not defined.*its columns: id"),
        (presentations(), {"images": "absent"}, "images folder absent does not exist"),
    ],
)
def test_what_does_not_fit(recording_and_sorting, table, reading, message):
    with pytest.raises(MigvisError, match=message):
        session_from_sorting(recording_and_sorting[1], table, **reading)


def test_segments_and_silence():
    two = core.generate_sorting(num_units=2, durations=[1.0, 1.0], seed=0)
    with pytest.raises(MigvisError, match="has 2 segments"):
        session_from_sorting(two, presentations())
    silent = core.NumpySorting.from_unit_dict([{"a": np.array([], np.int64)}], sampling_frequency=1000.0)
    with pytest.raises(MigvisError, match="has 1 units and no spike"):
        session_from_sorting(silent, presentations())
