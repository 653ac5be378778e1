"""Presentations are found wherever the schema keeps them; what keeps them from being read is named."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from layouts import (
    N_IMAGES,
    SHOWN,
    WINDOW_S,
    Truth,
    add_trials,
    check,
    dicarlo_session,
    image_container,
    image_folder,
    index_series,
    new_file,
    picture,
    start_times,
    write,
)
from pynwb.core import DynamicTable
from pynwb.epoch import TimeIntervals
from pynwb.image import IndexSeries

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session, session_from_sorting
from nwb_migvis.sorting import SortedUnits

NAMES = [f"im{k}" for k in SHOWN]


def intervals(name="shows"):
    table = TimeIntervals(name=name, description=name)
    table.add_column("image_name", "name")
    for start, image in zip(start_times(), NAMES, strict=True):
        table.add_interval(start, start + 0.1, image_name=image)
    return table


def events(nwb):
    from pynwb.event import EventsTable

    table = EventsTable(name="onsets", description="onsets")
    table.add_column("image_name", "name")
    for start, image in zip(start_times(), NAMES, strict=True):
        table.add_row(timestamp=start, image_name=image)
    nwb.add_events_table(table)


PLACES = {
    "events": events,
    "stimulus": lambda nwb: nwb.add_stimulus(intervals()),
    "acquisition": lambda nwb: nwb.add_acquisition(intervals()),
    "processing": lambda nwb: nwb.create_processing_module("behavior", "b").add(intervals()),
    "intervals": lambda nwb: nwb.add_time_intervals(intervals()),
}


@pytest.mark.parametrize("place", PLACES)
def test_tables_in_every_place(tmp_path, place):
    nwb = new_file()
    PLACES[place](nwb)
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), NAMES)
    check(read_session(truth.path, window_s=WINDOW_S, stimulus="image_name"), truth)


@pytest.mark.parametrize("place", ["acquisition", "processing"])
def test_series_in_other_places(tmp_path, place):
    nwb = new_file()
    container = image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)})
    nwb.add_stimulus_template(container)
    data = np.array(SHOWN, np.uint32)
    series = IndexSeries(
        name="shown", data=data, indexed_images=container, unit="N/A", timestamps=start_times()
    )
    if place == "acquisition":
        nwb.add_acquisition(series)
    else:
        nwb.create_processing_module("stimuli", "s").add(series)
    pixels = {f"pic{k}": picture(k) for k in range(N_IMAGES)}
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), [f"pic{k}" for k in SHOWN], pixels)
    check(read_session(truth.path, window_s=WINDOW_S), truth)


def test_what_lies_elsewhere_is_named(tmp_path):
    nwb = new_file()
    nwb.add_scratch(DynamicTable(name="log", description="log"))
    nwb.add_analysis(intervals("afterwards"))
    with pytest.raises(MigvisError, match=r"TimeIntervals analysis/afterwards, DynamicTable scratch/log"):
        read_session(write(nwb, tmp_path / "a.nwb"))


@pytest.mark.parametrize("name", ["shown", "shown/indexed_images"])
@pytest.mark.parametrize("link", [h5py.ExternalLink("gone.nwb", "/there"), h5py.SoftLink("/nowhere")])
def test_links_that_lead_nowhere_are_named(tmp_path, name, link):
    path = index_series(tmp_path / "a.nwb").path
    with h5py.File(path, "r+") as file:
        del file[f"stimulus/presentation/{name}"]
        file[f"stimulus/presentation/{name}"] = link
    with pytest.raises(MigvisError, match=f"the link /stimulus/presentation/{name} leads to {link.path}"):
        read_session(path)


@pytest.mark.parametrize("number", [32001, 32015])
@pytest.mark.parametrize("name", ["stimulus/presentation/shown/data", "units/spike_times"])
def test_filters_that_are_not_loaded_are_named(tmp_path, number, name):
    if h5py.h5z.filter_avail(number):
        pytest.skip("the filter is loaded here")
    path = index_series(tmp_path / "a.nwb").path
    with h5py.File(path, "r+") as file:
        values, attributes = file[name][...], dict(file[name].attrs)
        del file[name]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(values.shape)
        plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
        kind, space = h5py.h5t.py_create(values.dtype), h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, name.encode(), kind, space, plist)
        made.write_direct_chunk((0,), values.tobytes(), 0)
        file[name].attrs.update(attributes)
    with pytest.raises(MigvisError, match=f"filter {number}") as error:
        read_session(path)
    assert "hdf5plugin" in str(error.value)
    assert "damaged" not in str(error.value)


def test_sizes_that_the_file_cannot_hold(tmp_path):
    path = index_series(tmp_path / "a.nwb").path
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/shown"]
        attributes = dict(series["timestamps"].attrs)
        del series["timestamps"]
        series.create_dataset("timestamps", shape=(2**33,), dtype="f8", chunks=(2**16,))
        series["timestamps"].attrs.update(attributes)
    with pytest.raises(MigvisError, match="is said to hold 68719476736 bytes"):
        read_session(path)


@pytest.mark.parametrize("starting_frame", [[0], [0] * len(SHOWN)])
def test_single_images_whose_starting_frame_says_nothing(tmp_path, starting_frame):
    from pynwb.image import ImageSeries

    image_folder(tmp_path, {f"{k}.png": k for k in range(N_IMAGES)})
    nwb = new_file()
    files = [f"{k}.png" for k in SHOWN]
    frames = list(range(len(files)))
    series = ImageSeries(
        name="shown", external_file=files, starting_frame=frames, format="external", timestamps=start_times()
    )
    nwb.add_stimulus(series)
    path = write(nwb, tmp_path / "a.nwb")
    with h5py.File(path, "r+") as file:
        file["stimulus/presentation/shown/external_file"].attrs["starting_frame"] = starting_frame
    assert read_session(path).sizes == {"presentation": 12, "unit": 3, "stimulus": 4, "y": 6, "x": 5}


def test_repeated_ids_have_rows_and_groups(tmp_path):
    nwb = new_file([])
    nwb.units = None
    device = nwb.create_device("probe")
    groups = [nwb.create_electrode_group(name, "x", "IT", device) for name in ("a", "b")]
    for k in range(4):
        train = np.sort(np.random.default_rng(k).uniform(0, 6, 60))
        nwb.add_unit(spike_times=train, id=k % 2, electrode_group=groups[k // 2])
    add_trials(nwb, start_times(), image_name=NAMES)
    session = read_session(write(nwb, tmp_path / "a.nwb"), stimulus="image_name")
    assert session["unit"].values.tolist() == [0, 1, 0, 1]
    assert session["unit_row"].values.tolist() == [0, 1, 2, 3]
    assert session["electrode_group"].values.tolist() == ["a", "a", "b", "b"]
    some = read_session(tmp_path / "a.nwb", stimulus="image_name", units="electrode_group == 'b'")
    assert some["unit_row"].values.tolist() == [2, 3]


@pytest.mark.parametrize("kind", ["ab", [1.5, 2.5]])
def test_missing_values_are_known_from_other_rows(tmp_path, kind):
    missing = "" if isinstance(kind, str) else np.nan
    nwb = new_file()
    values = [missing if i in (0, 3) else kind[k % 2] for i, k in enumerate(SHOWN)]
    add_trials(nwb, start_times(), image_name=NAMES, label=values)
    session = read_session(write(nwb, tmp_path / "a.nwb"), stimulus="image_name")
    assert session["label"].sel(stimulus=["im0", "im1", "im2"]).values.tolist() == [kind[0], kind[1], kind[0]]


def test_images_by_a_csv(tmp_path):
    truth = dicarlo_session(tmp_path / "a.nwb")
    image_folder(tmp_path / "files", {f"x{k}.png": k for k in range(N_IMAGES)})
    rows = [f"im{k}.png,files/x{k}.png" for k in range(N_IMAGES)]
    (tmp_path / "map.csv").write_text("\n".join(["stimulus,file", *rows]))
    session = read_session(truth.path, images=tmp_path / "map.csv")
    for k in range(N_IMAGES):
        np.testing.assert_array_equal(session["image"].sel(stimulus=f"im{k}.png"), picture(k))
    (tmp_path / "map.csv").write_text("\n".join(["stimulus,file", *rows[:2]]))
    with pytest.raises(MigvisError, match="lacks 2 of 4 images"):
        read_session(truth.path, images=tmp_path / "map.csv")
    (tmp_path / "map.csv").write_text("\n".join(["stimulus,file", *rows, rows[0]]))
    with pytest.raises(MigvisError, match="twice"):
        read_session(truth.path, images=tmp_path / "map.csv")


def test_an_analyzer_without_its_recording_needs_a_start():
    core = pytest.importorskip("spikeinterface.core")
    import pandas as pd

    recording, sorting = core.generate_ground_truth_recording(durations=[6.0], num_units=3, num_channels=4)
    recording.shift_times(20.0)
    analyzer = core.create_sorting_analyzer(sorting, recording, sparse=False)
    table = pd.DataFrame({"start_time": start_times() + 20, "stimulus": NAMES})
    here = session_from_sorting(analyzer, table)
    with pytest.raises(MigvisError, match="omit t_start"):
        session_from_sorting(analyzer, table, t_start=20.0)
    analyzer._recording = None
    with pytest.raises(MigvisError, match="--t-start"):
        SortedUnits.of(analyzer)
    away = session_from_sorting(analyzer, table, t_start=20.0)
    np.testing.assert_array_equal(away["spike_count"], here["spike_count"])


@pytest.mark.parametrize("link", [h5py.ExternalLink("gone.nwb", "/trials"), h5py.SoftLink("/gone")])
@pytest.mark.parametrize("place", ["intervals/trials", "intervals/trials/kind", "units/obs_intervals"])
def test_links_to_nowhere_that_would_lose_labels_or_masks_are_refused(tmp_path, link, place):
    path = index_series(tmp_path / "a.nwb", trials={"kind": ["ab"[k % 2] for k in SHOWN]}).path
    with h5py.File(path, "r+") as file:
        if place in file:
            del file[place]
        file[place] = link
    with pytest.raises(MigvisError, match=f"the link /{place} leads to .*gone.*which does not exist"):
        read_session(path)


def test_links_to_nowhere_in_other_places_are_named(tmp_path):
    path = index_series(tmp_path / "a.nwb").path
    with h5py.File(path, "r+") as file:
        file["acquisition/labels"] = h5py.ExternalLink("gone.nwb", "/labels")
    session = read_session(path)
    assert session.attrs["not_joined"] == {
        "acquisition/labels": "its link leads to /labels of gone.nwb, which does not exist"
    }
