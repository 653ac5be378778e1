"""NWB sessions written of SpikeInterface objects read as the objects do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from layouts import N_IMAGES, SHOWN, image_folder, index_series, new_file, start_times, unknown_series, write
from pynwb import NWBHDF5IO, validate

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session, session_from_sorting
from nwb_migvis.sorting import SessionMetadata, load_sorting, read_presentations, write_sorted_session

core = pytest.importorskip("spikeinterface.core")

TOML = """
[session]
identifier = "monkey-1"
session_description = "Images in rapid serial presentation."
session_start_time = 2026-01-31T09:30:00+01:00
experimenter = ["Doe, Jane"]
[subject]
subject_id = "M"
species = "Macaca mulatta"
sex = "F"
age = "P7Y"
[device]
name = "array"
[electrodes]
location = "IT"
"""


@pytest.fixture(scope="module")
def analyzer():
    recording, sorting = core.generate_ground_truth_recording(
        durations=[6.0], num_units=4, num_channels=4, seed=0
    )
    analyzer = core.create_sorting_analyzer(sorting, recording, format="memory", sparse=False)
    analyzer.compute(["random_spikes", "noise_levels", "templates"], verbose=False)
    analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate"], verbose=False)
    return analyzer


@pytest.fixture
def presentations():
    table = pd.DataFrame({"start_time": start_times(), "stimulus": [f"im{k}" for k in SHOWN]})
    table["category"] = ["xyxy"[k] for k in SHOWN]
    table["yaw"] = [0.5 * k for k in SHOWN]
    table["correct"] = [k != 4 for k in range(12)]
    table.loc[7, "stimulus"] = None
    return table


@pytest.fixture
def metadata(tmp_path):
    (tmp_path / "meta.toml").write_text(TOML)
    return SessionMetadata.from_toml(tmp_path / "meta.toml")


@pytest.fixture
def folder(tmp_path):
    return image_folder(tmp_path / "images", {f"im{k}.png": k for k in range(N_IMAGES)})


def assert_same(written, session):
    for name in ("spike_count", "stimulus_index", "start_time", "stimulus", "category", "yaw", "image"):
        np.testing.assert_array_equal(written[name], session[name])
    assert written.attrs["n_blank"] == session.attrs["n_blank"] == 1


def test_a_new_session_reads_as_the_sorting_does(analyzer, presentations, metadata, folder, tmp_path):
    session = session_from_sorting(analyzer, presentations, folder)
    path = write_sorted_session(
        tmp_path / "a.nwb", analyzer, presentations, image=session["image"], into=metadata
    )
    assert_same(read_session(path), session)
    assert read_session(path).attrs["layout"] == "index_series"
    assert read_session(path, where="correct").attrs["n_dropped"] == 1
    assert not validate(path=str(path))
    snr = analyzer.get_extension("quality_metrics").get_data()["snr"]
    good = read_session(path, units=f"snr > {snr.median()}")
    assert good.sizes["unit"] == 2
    with NWBHDF5IO(path, "r") as io:
        nwb = io.read()
        assert nwb.identifier == "monkey-1"
        assert nwb.subject.species == "Macaca mulatta"
        assert list(nwb.electrodes["location"][:]) == ["IT"] * 4
        assert list(nwb.units["unit_name"][:]) == [str(unit) for unit in analyzer.unit_ids]
    assert list(tmp_path.glob(".*")) == []


def test_some_units_in_their_own_order(analyzer, presentations, metadata, folder, tmp_path):
    kept = list(analyzer.unit_ids[[3, 1]])
    path = write_sorted_session(tmp_path / "a.nwb", analyzer, presentations, unit_ids=kept, into=metadata)
    whole = session_from_sorting(analyzer, presentations)
    some = read_session(path, stimulus="image_name")
    np.testing.assert_array_equal(some["spike_count"], whole["spike_count"].sel(unit=kept))
    assert "image" not in some


def test_units_added_to_a_copy_of_a_session(analyzer, presentations, folder, tmp_path):
    raw = new_file([])
    raw.units = None
    raw.add_acquisition(unknown_series("voltage"))
    into = write(raw, tmp_path / "raw.nwb")
    before = into.read_bytes()
    session = session_from_sorting(analyzer, presentations, folder)
    image = session["image"]
    path = write_sorted_session(tmp_path / "a.nwb", analyzer, presentations, image=image, into=into)
    assert into.read_bytes() == before
    assert_same(read_session(path), session)
    with NWBHDF5IO(path, "r") as io:
        assert io.read().acquisition["voltage"].data[:].tolist() == [1.0, 2.0]


def test_sessions_that_cannot_be_written(analyzer, presentations, metadata, tmp_path):
    out = tmp_path / "a.nwb"
    full = index_series(tmp_path / "full.nwb").path
    with pytest.raises(MigvisError, match="has 3 units already"):
        write_sorted_session(out, analyzer, presentations, into=full)
    with pytest.raises(MigvisError, match="does not exist"):
        write_sorted_session(out, analyzer, presentations, into=tmp_path / "absent.nwb")
    with pytest.raises(MigvisError, match="cannot be copied"):
        write_sorted_session(out, analyzer, presentations, into=tmp_path / "meta.toml")
    with pytest.raises(MigvisError, match="no unit z"):
        write_sorted_session(out, analyzer, presentations, unit_ids=["z"], into=metadata)
    with pytest.raises(MigvisError, match="is the session that units are added to"):
        write_sorted_session(full, analyzer, presentations, into=full, overwrite=True)
    assert not out.exists()
    assert list(tmp_path.glob(".*")) == []
    write_sorted_session(out, analyzer, presentations, into=metadata)
    with pytest.raises(MigvisError, match="exists; choose another path"):
        write_sorted_session(out, analyzer, presentations, into=metadata)


def test_names_that_nwb_has_no_room_for(analyzer, presentations, metadata, folder, tmp_path):
    sorting = core.NumpySorting.from_sorting(analyzer.sorting)
    for name in ("electrodes", "id", "a/b"):
        sorting.set_property(name, np.array([1.0, 2.0, 3.0, 4.0]))
    path = write_sorted_session(tmp_path / "a.nwb", sorting, presentations, into=metadata)
    assert read_session(path, stimulus="image_name", units="sorting_id > 2 and a_b < 4").sizes["unit"] == 1
    for column in ("image_name", "timeseries", "description", "a/b", "a:b"):
        with pytest.raises(MigvisError, match=f"presentations have a column '{column}'"):
            write_sorted_session(
                tmp_path / "b.nwb", sorting, presentations.assign(**{column: 1}), into=metadata
            )
    (tmp_path / "images" / "d").mkdir()
    inside = presentations.assign(stimulus="d/" + presentations["stimulus"].fillna("im0"))
    image = session_from_sorting(sorting, inside, folder)["image"]
    with pytest.raises(MigvisError, match=r"the image 'd/im0' .* cannot be stored"):
        write_sorted_session(tmp_path / "b.nwb", sorting, inside, image=image, into=metadata)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("session = [", "is not valid TOML"),
        ("[animal]\nname = 'x'", "animal is unknown; expected tables session, subject, device, electrodes"),
        (TOML.replace("species", "specie"), "subject.specie is unknown; expected one of subject_id, species"),
        (
            TOML.replace("+01:00", ""),
            "session.session_start_time is .* expected a date and time with its offset",
        ),
        (TOML.replace('["Doe, Jane"]', '"Doe, Jane"'), "session.experimenter is .* expected a list of texts"),
        (TOML.replace('identifier = "monkey-1"', ""), "lacks session.identifier"),
        (TOML.replace('name = "array"', ""), "lacks device.name"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path, text, message):
    path = tmp_path / "meta.toml"
    path.write_text(text)
    with pytest.raises(MigvisError, match=message):
        SessionMetadata.from_toml(path)


def test_presentations_from_a_csv(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("start_time,stimulus,category,correct\n1.5,007,x,True\n,008,,False\n2.5,,y,True\n")
    table = read_presentations(path)
    assert table["stimulus"].tolist() == ["007", "008", ""]
    assert table["start_time"].isna().tolist() == [False, True, False]
    assert table["category"].tolist() == ["x", "", "y"]
    assert table["correct"].dtype == bool
    path.write_text("time,stimulus\n1,a\n")
    with pytest.raises(MigvisError, match="no column 'start_time'"):
        read_presentations(path)
    with pytest.raises(MigvisError, match="No such file"):
        read_presentations(tmp_path / "absent.csv")


def test_sortings_from_a_folder(analyzer, tmp_path):
    saved = analyzer.save_as(folder=tmp_path / "analyzer", format="binary_folder")
    loaded = load_sorting(tmp_path / "analyzer")
    assert list(loaded.unit_ids) == list(saved.unit_ids)
    analyzer.sorting.save(folder=tmp_path / "sorting")
    assert load_sorting(tmp_path / "sorting").get_num_segments() == 1
    (tmp_path / "empty").mkdir()
    for path, message in (("absent", "does not exist"), ("empty", "cannot be loaded")):
        with pytest.raises(MigvisError, match=message):
            load_sorting(tmp_path / path)
