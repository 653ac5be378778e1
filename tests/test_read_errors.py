"""What the user can fix is one line that says what was found, what was expected and what to do."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
from layouts import (
    N_IMAGES,
    SHOWN,
    add_intervals,
    add_trials,
    dicarlo_session,
    edited,
    image_container,
    image_folder,
    index_series,
    new_file,
    picture,
    spike_trains,
    start_times,
    write,
)
from pynwb.image import IndexSeries

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session


def refused(path, **reading) -> str:
    with pytest.raises(MigvisError) as error:
        read_session(path, **reading)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message or reading
    return message


def session(tmp_path, name="a.nwb", **options):
    return index_series(tmp_path / name, **options).path


def test_path_that_is_no_session(tmp_path):
    assert "does not exist" in refused(tmp_path / "absent.nwb")
    assert "is a directory" in refused(tmp_path)
    text = tmp_path / "text.nwb"
    text.write_text("units")
    assert "is not an NWB file" in refused(text)
    text.write_text("")
    assert "is not an NWB file" in refused(text)
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["data"] = 1
    assert "is HDF5 but not NWB" in refused(tmp_path / "plain.h5")
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
    assert "is NWB 1" in refused(tmp_path / "old.nwb")


def test_truncated_file(tmp_path):
    path = session(tmp_path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is truncated" in refused(path)


def test_damage_in_which_the_library_would_loop_for_ever_or_crash(tmp_path):
    path = session(tmp_path)
    whole = path.read_bytes()
    heap = whole.index(b"GCOL")
    path.write_bytes(whole[: heap + 16] + bytes(16) + whole[heap + 32 :])
    assert "global heap has an entry of no size" in refused(path)
    text_type = whole.index(b"\x19\x01\x01\x00\x10\x00\x00\x00")
    path.write_bytes(whole[: text_type + 1] + b"\x03" + whole[text_type + 2 :])
    assert "datatype is neither a sequence nor text" in refused(path)


def test_file_open_elsewhere_for_writing(tmp_path):
    path = session(tmp_path)
    holder = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        message = refused(path)
        process.stdin.close()
    assert "is open elsewhere" in message
    assert read_session(path).sizes["unit"] == 3


def test_no_units(tmp_path):
    nwb = new_file([])
    nwb.units = None
    add_trials(nwb, start_times(), image_name=["a"] * 12)
    assert "no Units table" in refused(write(nwb, tmp_path / "a.nwb"))


def test_units_without_spike_times(tmp_path):
    nwb = new_file([])
    nwb.add_unit_column("quality", "quality")
    nwb.add_unit(quality="good")
    message = refused(write(nwb, tmp_path / "a.nwb"))
    assert "has no spike_times (its columns: quality)" in message


def test_no_unit_with_a_spike(tmp_path):
    assert "has 2 units and no spike" in refused(session(tmp_path, trains=[np.empty(0), np.empty(0)]))


def test_spike_times_with_nan(tmp_path):
    trains = spike_trains()
    trains[1][3] = np.nan
    message = refused(session(tmp_path, trains=trains))
    assert "Units table 'units', row 1: spike_times hold NaN" in message


def test_no_stimuli(tmp_path):
    assert "no stimuli" in refused(write(new_file(), tmp_path / "a.nwb"))
    nwb = new_file()
    add_trials(nwb, start_times(), outcome=["hit"] * 12)
    message = refused(write(nwb, tmp_path / "b.nwb"))
    assert "tables: trials" in message
    assert "stimulus=COLUMN" in message
    assert "12 presentations and no image among them" in refused(session(tmp_path, "c.nwb", index=[-1] * 12))


def test_starts_that_are_nan(tmp_path):
    starts = start_times()
    starts[[1, 4]] = np.nan
    found = read_session(session(tmp_path, start_time=starts))
    assert found.attrs["n_dropped"] == 2
    assert found.attrs["dropped"] == {"start_time is NaN": 2}
    assert found.sizes["presentation"] == 10
    starts[:] = np.nan
    assert "every presentation has a NaN start time" in refused(session(tmp_path, "b.nwb", start_time=starts))


def test_a_blank_without_a_start_is_a_blank(tmp_path):
    starts = start_times()
    starts[[1, 4]] = np.nan
    index = [k if i != 4 else -1 for i, k in enumerate(SHOWN)]
    found = read_session(session(tmp_path, start_time=starts, index=index))
    assert (found.attrs["n_blank"], found.attrs["n_dropped"]) == (1, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, *SHOWN[1:]], "holds 0.5; expected whole numbers"),
        ([-7, *SHOWN[1:]], "holds -7, which is neither the position of an image nor a blank"),
    ],
)
def test_index_that_is_no_position(tmp_path, values, message):
    nwb = new_file()
    container = image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)})
    nwb.add_stimulus_template(container)
    add_intervals(nwb, "shows", start_times(), image_index=values)
    assert message in refused(write(nwb, tmp_path / "a.nwb"))


def test_series_with_fewer_times_than_values(tmp_path):
    path = session(tmp_path)
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/shown"]
        attributes = dict(series["timestamps"].attrs)
        del series["timestamps"]
        series["timestamps"] = start_times()[:5]
        series["timestamps"].attrs.update(attributes)
    assert "shown has 12 values and 5 timestamps" in refused(path)


def test_images_that_are_absent(tmp_path):
    path = dicarlo_session(tmp_path / "a.nwb").path
    message = refused(path)
    assert "4 of 4 images have no pixels in the file, first 'im0.png'" in message
    assert "images=FOLDER (--images DIR)" in message
    assert "does not exist" in refused(path, images=tmp_path / "absent")
    assert "is not a folder" in refused(path, images=path)
    folder = image_folder(tmp_path / "images", {f"im{k}.png": k for k in (0, 3)})
    message = refused(path, images=folder)
    assert "lacks 2 of 4 images, first 'im1.png'" in message
    (folder / "im1.png").write_text("text")
    (folder / "im2.png").write_text("text")
    assert f"{folder / 'im1.png'} is not an image" in refused(path, images=folder)


def test_two_files_for_one_image(tmp_path):
    path = dicarlo_session(tmp_path / "a.nwb").path
    folder = image_folder(tmp_path / "images", {f"im{k}.jpg": k for k in range(N_IMAGES)})
    image_folder(folder, {"im2.bmp": 2})
    assert "has 2 files for stimulus 'im2.png': im2.bmp, im2.jpg" in refused(path, images=folder)


def test_images_are_not_looked_for_outside_the_folder(tmp_path):
    nwb = new_file()
    add_trials(nwb, start_times(), image_file=[f"../im{k}.png" for k in SHOWN])
    path = write(nwb, tmp_path / "a.nwb")
    image_folder(tmp_path, {f"im{k}.png": k for k in range(N_IMAGES)})
    (tmp_path / "images").mkdir()
    assert "lacks 4 of 4 images" in refused(path, images=tmp_path / "images")


def test_columns_that_are_not_there(tmp_path):
    path = session(tmp_path, trials={"correct": [True] * 12, "score": list(range(12))})
    message = refused(path, where="corect")
    assert "no presentation column 'corect' (where=); expected one of: correct, score" in message
    assert "'score' (where=) is not true or false" in refused(path, where="score")
    assert "no table of intervals has a column 'image'" in refused(path, stimulus="image")


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float64])
def test_where_keeps_what_is_true(tmp_path, kind):
    correct = np.array([k % 3 != 0 for k in range(12)], kind)
    path = session(tmp_path, trials={"correct": list(correct)})
    found = read_session(path, where="correct")
    np.testing.assert_array_equal(found["start_time"], start_times()[correct == 1])
    assert found.attrs["dropped"] == {"correct is not true": 4}


def test_where_that_is_never_true(tmp_path):
    path = session(tmp_path, trials={"correct": [False] * 12})
    assert "is true for no presentation" in refused(path, where="correct")


def test_an_extension_that_is_not_installed_does_not_matter(tmp_path):
    """The file is written by a process that knows the extension, and read by one that does not."""
    path = session(tmp_path)
    script = f"""
import numpy as np
from pynwb import NWBHDF5IO, get_class, load_namespaces
from pynwb.spec import NWBAttributeSpec, NWBGroupSpec, NWBNamespaceBuilder
builder = NWBNamespaceBuilder("its own", "ndx-strange", version="0.1.0", author="x", contact="x@x.org")
builder.include_type("NWBDataInterface", namespace="core")
spec = NWBGroupSpec("a thing", neurodata_type_def="StrangeThing", neurodata_type_inc="NWBDataInterface",
                    attributes=[NWBAttributeSpec("colour", "its colour", "text")])
builder.add_spec("ndx-strange.extensions.yaml", spec)
builder.export("ndx-strange.namespace.yaml", outdir={str(tmp_path)!r})
load_namespaces({str(tmp_path / "ndx-strange.namespace.yaml")!r})
thing = get_class("StrangeThing", "ndx-strange")(name="thing", colour="red")
with NWBHDF5IO({str(path)!r}, "r") as source, NWBHDF5IO({str(tmp_path / "b.nwb")!r}, "w") as io:
    nwb = source.read()
    nwb.add_acquisition(thing)
    io.export(src_io=source, nwbfile=nwb)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, cwd=tmp_path)
    found = read_session(tmp_path / "b.nwb")
    np.testing.assert_array_equal(found["spike_count"], read_session(path)["spike_count"])


def test_reading_is_silent(tmp_path, recwarn, capfd):
    read_session(session(tmp_path))
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


def test_series_into_nothing(tmp_path):
    path = session(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["stimulus/presentation/shown/indexed_images"]
    assert "root/stimulus/presentation/shown cannot be built: Could not construct IndexSeries" in refused(
        path
    )


def test_units_index_that_does_not_fit(tmp_path):
    path = session(tmp_path)
    with h5py.File(path, "r+") as file:
        file["units/spike_times_index"][-1] = 255
    assert "spike_times_index does not fit spike_times" in refused(path)


def test_image_of_an_index_series_that_is_no_image(tmp_path):
    def add(nwb):
        container = image_container({"a": picture(0)}, name="more")
        nwb.add_stimulus_template(container)
        nwb.add_stimulus(
            IndexSeries(name="second", data=[0], indexed_images=container, unit="N/A", timestamps=[1.0])
        )

    path = edited(session(tmp_path), tmp_path / "b.nwb", add)
    assert "give different presentations" in refused(path)
    assert read_session(path, layout="second").sizes["presentation"] == 1
