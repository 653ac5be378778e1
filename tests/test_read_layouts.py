"""Every layout gives exactly the presentations, counts, pixels and blanks that were written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import (
    N_IMAGES,
    SHOWN,
    WINDOW_S,
    Truth,
    add_intervals,
    add_trials,
    allen_presentations,
    check,
    deprecated_index_series,
    dicarlo_session,
    edited,
    image_container,
    image_folder,
    index_series,
    new_file,
    optical_series,
    picture,
    start_times,
    unknown_series,
    write,
)
from pynwb.base import ExternalImage, ImageReferences, Images
from pynwb.image import ImageSeries, IndexSeries

from nwb_migvis.read import read_session


def read(truth: Truth, **reading):
    return read_session(truth.path, window_s=WINDOW_S, **reading)


def renamed(truth: Truth, session) -> Truth:
    """Return the truth with the ids that the session gave, found by pixels."""
    ids = {}
    for name, pixels in truth.pixels.items():
        same = [
            s for s in session["stimulus"].values if np.array_equal(session["image"].sel(stimulus=s), pixels)
        ]
        ids[name] = str(same[0])
    return replace(
        truth,
        shown=[None if name is None else ids[name] for name in truth.shown],
        pixels={ids[name]: pixels for name, pixels in truth.pixels.items()},
    )


@pytest.mark.parametrize("images_in", ["stimulus", "stimulus_template"])
@pytest.mark.parametrize("rate", [None, 3.0])
def test_index_series(tmp_path, images_in, rate):
    truth = index_series(tmp_path / "a.nwb", images_in=images_in, rate=rate)
    session = read(truth)
    check(session, truth)
    assert session.attrs["layout"] == "index_series"
    assert session["stimulus"].values.tolist() == list(truth.pixels)
    assert session["unit"].values.tolist() == [10, 11, 12]
    assert session.attrs["identifier"] == "test"
    assert session.attrs["window_s"] == WINDOW_S


def test_order_of_images_counts_not_the_names(tmp_path):
    pixels = {name: picture(k) for k, name in enumerate(["z", "b2", "a", "b10"])}
    truth = index_series(tmp_path / "a.nwb", pixels=pixels)
    session = read(truth)
    check(session, truth)
    assert session["stimulus"].values.tolist() == ["z", "b2", "a", "b10"]


def test_index_of_no_image_is_a_blank(tmp_path):
    truth = index_series(tmp_path / "a.nwb", index=[0, -1, 1, N_IMAGES, 2, 3, 0])
    session = read(truth)
    check(session, truth)
    assert session.attrs["n_blank"] == 2


def test_image_that_was_never_shown_is_left_out(tmp_path):
    truth = index_series(tmp_path / "a.nwb", index=[0, 3, 3, 0])
    session = read(truth)
    check(session, truth)
    assert session["stimulus"].values.tolist() == ["pic0", "pic3"]


def test_images_without_order_count_by_the_number_in_their_names(tmp_path):
    pixels = {f"NaturalScene{k}": picture(k) for k in range(12)}
    truth = index_series(tmp_path / "a.nwb", pixels=pixels, index=[11, 2, 10, 1, 0, 2], is_ordered=False)
    check(read(truth), truth)


def test_images_whose_order_is_unknown_are_refused(tmp_path):
    pixels = {name: picture(k) for k, name in enumerate("abcd")}
    truth = index_series(tmp_path / "a.nwb", pixels=pixels, is_ordered=False)
    with pytest.raises(ValueError, match="has no order_of_images"):
        read(truth)


@pytest.mark.parametrize("names", [(), ("im_a", "im_b", "im_c", "im_d")])
def test_deprecated_index_into_image_series(tmp_path, names):
    truth = deprecated_index_series(tmp_path / "a.nwb", names=names, index=[2, 0, N_IMAGES, 1, 0, 3])
    session = read(truth)
    check(session, truth if names else renamed(truth, session))


def test_visual_behavior_template_and_presentations_are_one_reading(tmp_path):
    names = ("im_a", "im_b", "im_c", "im_d")
    index = [2, 0, N_IMAGES, 1, 0, 3]
    presentations = {
        "image_name": [names[k] if k < N_IMAGES else "omitted" for k in index],
        "image_index": index,
        "omitted": [k == N_IMAGES for k in index],
        "is_change": [True, False, False, True, False, True],
        "contrast": [0.5, 1.0, 1.0, 0.25, 1.0, 0.75],
    }
    truth = deprecated_index_series(tmp_path / "a.nwb", names=names, index=index, presentations=presentations)
    session = read(truth)
    check(session, truth)
    assert session.attrs["found_in"] == "scenes, scenes_presentations"
    assert session["contrast"].sel(stimulus="im_c") == 0.5
    only_table = read(truth, layout="scenes_presentations")
    assert only_table.attrs["layout"] == "allen"
    check(only_table, truth)


@pytest.mark.parametrize("table", ["scenes_presentations", "other_presentations"])
def test_frames_of_a_presentations_table_count_the_template(tmp_path, table):
    truth = allen_presentations(tmp_path / "a.nwb", table=table)
    session = read(truth)
    check(session, truth)
    assert session.attrs["layout"] == "allen"
    assert session.attrs["n_blank"] == 1


def test_frames_without_pixels_are_read_when_asked_for(tmp_path):
    truth = allen_presentations(tmp_path / "a.nwb", with_pixels=False)
    with pytest.raises(ValueError, match="4 of 4 images have no pixels"):
        read(truth)
    check(read(truth, stimulus="frame"), truth)
    folder = image_folder(tmp_path / "images", {f"{k}.png": k for k in range(N_IMAGES)})
    check(read(truth, images=folder), replace(truth, pixels={str(k): picture(k) for k in range(N_IMAGES)}))


def test_optical_series_merges_repeats_by_the_trials_file_name(tmp_path):
    names = [f"faces/{k}.jpg" for k in range(N_IMAGES)]
    truth = optical_series(tmp_path / "a.nwb", names=names)
    session = read(truth)
    check(session, truth)
    assert session.attrs["layout"] == "frames"
    assert session["category_name"].sel(stimulus="faces/3.jpg") == "odd"


def test_optical_series_merges_repeats_by_pixels(tmp_path):
    truth = optical_series(tmp_path / "a.nwb")
    session = read(truth)
    assert session.sizes["stimulus"] == N_IMAGES
    check(session, renamed(truth, session))


def test_channel_order_is_a_switch(tmp_path):
    truth = optical_series(tmp_path / "a.nwb", is_bgr=True)
    session = read(truth, channel_order="bgr")
    check(session, renamed(truth, session))
    with pytest.raises(ValueError, match="channel_order 'gbr' is unknown"):
        read(truth, channel_order="gbr")


def test_external_images(tmp_path):
    folder = image_folder(tmp_path / "images", {f"{k}.png": k for k in range(N_IMAGES)})
    nwb = new_file()
    items = [
        ExternalImage(name=f"pic{k}", data=f"{folder.name}/{k}.png", image_format="PNG")
        for k in range(N_IMAGES)
    ]
    order = ImageReferences(name="order_of_images", data=items)
    container = Images(name="pictures", images=items, order_of_images=order)
    nwb.add_stimulus_template(container)
    data = np.array(SHOWN, np.uint32)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=start_times())
    )
    pixels = {f"pic{k}": picture(k) for k in range(N_IMAGES)}
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), [f"pic{k}" for k in SHOWN], pixels)
    check(read(truth), truth)


def external_series(path: Path, files: list[str]) -> Truth:
    nwb = new_file()
    series = ImageSeries(
        name="shown",
        external_file=files,
        starting_frame=list(range(len(files))),
        format="external",
        timestamps=start_times(len(files)),
    )
    nwb.add_stimulus(series)
    return Truth(write(nwb, path), start_times(len(files)), [f"frame{k}" for k in SHOWN[: len(files)]])


def test_external_files_are_one_frame_a_presentation(tmp_path):
    image_folder(tmp_path / "images", {f"{k}.png": k for k in range(N_IMAGES)})
    truth = external_series(tmp_path / "a.nwb", [f"images/{k}.png" for k in SHOWN])
    truth = replace(truth, pixels={f"frame{k}": picture(k) for k in range(N_IMAGES)})
    session = read(truth)
    check(session, renamed(truth, session))


def test_external_file_outside_the_folder_needs_leave(tmp_path):
    image_folder(tmp_path / "images", {f"{k}.png": k for k in range(N_IMAGES)})
    (tmp_path / "session").mkdir()
    files = [f"../images/{k}.png" for k in SHOWN]
    truth = external_series(tmp_path / "session" / "a.nwb", files)
    with pytest.raises(
        ValueError, match=r"'\.\./images/2\.png' leaves the NWB file's folder.*--allow-outside"
    ):
        read(truth)
    session = read(truth, allow_outside=True)
    assert session.sizes["stimulus"] == N_IMAGES


def test_external_link_outside_the_folder_needs_leave(tmp_path):
    image_folder(tmp_path / "images", {"0.png": 0})
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "0.png").symlink_to(tmp_path / "images" / "0.png")
    truth = external_series(tmp_path / "session" / "a.nwb", ["0.png", "0.png"])
    with pytest.raises(ValueError, match="leaves the NWB file's folder"):
        read(truth)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["https://example.org/0.png"], "is a URL"),
        (["0.png"], "does not exist"),
        (["text.png"], "is not an image"),
    ],
)
def test_external_file_that_cannot_be_read(tmp_path, files, message):
    (tmp_path / "text.png").write_text("not an image")
    truth = external_series(tmp_path / "a.nwb", files)
    with pytest.raises(ValueError, match=message):
        read(truth)


def test_a_movie_beside_the_presentations_does_not_matter(tmp_path):
    movie = {"format": "external", "external_file": ["movie.avi"], "starting_frame": [0]}
    truth = index_series(tmp_path / "a.nwb")

    def add(nwb):
        nwb.add_stimulus(ImageSeries(name="movie", rate=30.0, starting_time=0.0, num_samples=9, **movie))

    path = edited(truth.path, tmp_path / "b.nwb", add)
    check(read_session(path, window_s=WINDOW_S), truth)


def test_movies_are_refused(tmp_path):
    truth = external_series(tmp_path / "a.nwb", ["a.png", "b.png"])
    with h5py.File(truth.path, "r+") as file:
        file["stimulus/presentation/shown/external_file"].attrs["starting_frame"] = [0, 30]
    with pytest.raises(ValueError, match="holds movies"):
        read(truth)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_dicarlo_session_with_a_folder(tmp_path, suffix):
    truth = dicarlo_session(tmp_path / "a.nwb", stimulus_order_in_trial=list(range(len(SHOWN))))
    folder = image_folder(tmp_path / "images", {f"im{k}.{suffix}": k for k in range(N_IMAGES)})
    session = read(truth, images=folder)
    if suffix == "jpg":
        assert session["image"].shape == (N_IMAGES, 6, 5)
        return
    check(session, replace(truth, pixels={f"im{k}.png": picture(k) for k in range(N_IMAGES)}))
    assert session.attrs["layout"] == "dicarlo"
    assert session["stimulus_order_in_trial"].dims == ("presentation",)


def test_images_as_a_mapping(tmp_path):
    truth = dicarlo_session(tmp_path / "a.nwb")
    folder = image_folder(tmp_path / "images", {f"x{k}.png": k for k in range(N_IMAGES)})
    files = {f"im{k}.png": folder / f"x{k}.png" for k in range(N_IMAGES)}
    check(
        read(truth, images=files), replace(truth, pixels={f"im{k}.png": picture(k) for k in range(N_IMAGES)})
    )
    with pytest.raises(ValueError, match=r"the mapping of images lacks 1 of 4 images, first 'im2\.png'"):
        read(truth, images={name: file for name, file in files.items() if name != "im2.png"})


def test_table_whose_column_names_images_of_the_file(tmp_path):
    nwb = new_file()
    nwb.add_stimulus_template(image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)}))
    add_intervals(nwb, "shows", start_times(), which=[f"pic{k}" for k in SHOWN])
    pixels = {f"pic{k}": picture(k) for k in range(N_IMAGES)}
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), [f"pic{k}" for k in SHOWN], pixels)
    session = read(truth)
    check(session, truth)
    assert session.attrs["found_in"] == "shows"


@pytest.mark.parametrize(("column", "values"), [("image_name", "abcd"), ("image_id", (7, 5, 300, 11))])
def test_table_with_an_image_name_or_id(tmp_path, column, values):
    nwb = new_file()
    add_trials(nwb, start_times(), **{column: [values[k] for k in SHOWN]})
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), [str(values[k]) for k in SHOWN])
    session = read(truth, stimulus=column)
    check(session, truth)
    assert session["stimulus"].values.tolist() == (
        ["5", "7", "11", "300"] if column == "image_id" else list("abcd")
    )


def aggregated_file(path):
    """Write two sessions, each with its own clock, units in its own order, and one that the other lacks."""
    from pynwb.epoch import TimeIntervals
    from pynwb.misc import Units

    trains = {
        "A": {"u0": [1.06, 2.07, 2.08], "u1": [2.06], "only_a": [1.07]},
        "B": {"u1": [1.06, 1.07, 1.08, 1.09], "only_b": [1.06], "u0": [2.06]},
    }
    nwb = new_file([])
    nwb.units = None
    module = nwb.create_processing_module("session_spike_times", "spikes")
    for name, units in trains.items():
        table = Units(name=f"spike_times_{name}", description="units")
        table.add_column("unit_name", "name")
        for unit, times in units.items():
            table.add_unit(spike_times=np.array(times), unit_name=unit)
        module.add(table)
        trials = TimeIntervals(name=f"trials_table_{name}", description="trials")
        trials.add_column("stimulus_filename", "file")
        for start, file in zip((1.0, 2.0), ("im1.png", "im0.png"), strict=True):
            trials.add_interval(start, start + 0.1, stimulus_filename=file)
        nwb.add_time_intervals(trials)
    return write(nwb, path)


def test_unit_names_join_the_sessions_of_an_aggregated_file(tmp_path):
    path = aggregated_file(tmp_path / "a.nwb")
    session = read_session(path, window_s=WINDOW_S, stimulus="stimulus_filename")
    assert session.attrs["layout"] == "dicarlo_aggregated"
    np.testing.assert_array_equal(session["spike_count"], [[1, 0], [2, 1], [0, 4], [1, 0]])
    assert session["stimulus"].values[session["stimulus_index"]].tolist() == ["im1.png", "im0.png"] * 2


def test_other_things_in_the_file_do_not_matter(tmp_path):
    nwb = new_file()
    container = image_container({f"pic{k}": picture(k) for k in range(N_IMAGES)})
    nwb.add_stimulus_template(container)
    nwb.add_stimulus_template(image_container({"x": picture(9)}, name="unused"))
    nwb.add_stimulus(unknown_series())
    nwb.add_acquisition(unknown_series("voltage"))
    nwb.add_epoch(0.0, 2.0, ["wake"])
    nwb.add_invalid_time_interval(50.0, 100.0)
    data = np.array(SHOWN, np.uint8)
    nwb.add_stimulus(
        IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", timestamps=start_times())
    )
    pixels = {f"pic{k}": picture(k) for k in range(N_IMAGES)}
    truth = Truth(write(nwb, tmp_path / "a.nwb"), start_times(), [f"pic{k}" for k in SHOWN], pixels)
    check(read(truth), truth)
