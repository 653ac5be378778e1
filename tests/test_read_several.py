"""Several sessions share stimulus ids, or are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from layouts import N_IMAGES, SHOWN, dicarlo_session, image_folder, index_series, picture

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import describe, inspect_session, read_session, read_sessions, shared_stimuli
from nwb_migvis.read.inspection import split_half_reliability

PIXELS = {f"pic{k}": picture(k) for k in range(6)}


def some(names):
    return {name: PIXELS[name] for name in names}


def two(tmp_path, first=("pic0", "pic1", "pic2"), second=("pic4", "pic2", "pic1"), **trials):
    a = index_series(tmp_path / "a.nwb", pixels=some(first), index=[0, 1, 2, 0, 1, 2])
    b = index_series(tmp_path / "b.nwb", pixels=some(second), index=[0, 1, 2, 2, 1, 0], **trials)
    return [a.path, b.path]


def test_sessions_are_those_read_one_by_one(tmp_path):
    paths = two(tmp_path)
    for path, session in zip(paths, read_sessions(paths), strict=True):
        assert session.identical(read_session(path))


def test_shared_stimuli(tmp_path):
    sessions = read_sessions(two(tmp_path, trials={"yaw": [0.5, 1.5, 1.0, 1.0, 1.5, 0.5]}))
    shared = shared_stimuli(sessions)
    assert shared["stimulus"].values.tolist() == ["pic0", "pic1", "pic2", "pic4"]
    np.testing.assert_array_equal(shared["yaw"], [np.nan, 1.0, 1.5, 0.5])
    np.testing.assert_array_equal(shared["image"], np.stack([PIXELS[n] for n in shared["stimulus"].values]))
    np.testing.assert_array_equal(shared["image"][[3, 0], 2], [PIXELS["pic4"][2], PIXELS["pic0"][2]])


def test_one_name_for_two_images_is_refused(tmp_path):
    paths = [
        index_series(tmp_path / "a.nwb").path,
        index_series(
            tmp_path / "b.nwb", pixels={f"pic{k}": picture(k if k != 2 else 9) for k in range(4)}
        ).path,
    ]
    with pytest.raises(MigvisError, match=r"image 'pic2' has other pixels in .*b\.nwb than in .*a\.nwb"):
        read_sessions(paths)


def test_a_session_without_pixels_is_matched_by_name(tmp_path):
    bare = dicarlo_session(tmp_path / "a.nwb")
    full = index_series(tmp_path / "b.nwb", pixels={f"im{k}.png": picture(k) for k in range(N_IMAGES)})
    folder = image_folder(tmp_path / "images", {f"im{k}.png": k for k in range(N_IMAGES)})
    sessions = read_sessions([bare.path, full.path], images=folder)
    assert shared_stimuli(sessions).sizes["stimulus"] == N_IMAGES
    image_folder(folder, {"im1.png": 7})
    with pytest.raises(MigvisError, match=r"image 'im1\.png' has other pixels"):
        read_sessions([bare.path, full.path], images=folder)


def test_labels_that_conflict(tmp_path):
    a = index_series(tmp_path / "a.nwb", trials={"kind": ["xyxy"[k] for k in SHOWN]})
    b = index_series(tmp_path / "b.nwb", trials={"kind": ["xyyy"[k] for k in SHOWN]})
    with pytest.raises(MigvisError, match=r"label 'kind' of image 'pic2' is 'y' in .* and 'x' in"):
        read_sessions([a.path, b.path])
    c = index_series(
        tmp_path / "c.nwb", pixels=some(["pic4", "pic5"]), index=[0, 1, 0], trials={"kind": [1.5, 2.5, 1.5]}
    )
    with pytest.raises(MigvisError, match="label 'kind' is a number in one file and text in another"):
        read_sessions([a.path, c.path])


def test_one_csv_for_all_sessions(tmp_path):
    paths = two(tmp_path)
    csv = tmp_path / "labels.csv"
    csv.write_text("stimulus,a\n" + "".join(f"pic{k},{k}.5\n" for k in (0, 1, 2, 4)))
    sessions = read_sessions(paths, labels=csv)
    assert sessions[1]["a"].values.tolist() == [4.5, 2.5, 1.5]
    csv.write_text(csv.read_text() + "pic7,1\n")
    with pytest.raises(MigvisError, match="names 1 stimuli that are not in the session, first 'pic7'"):
        read_sessions(paths, labels=csv)


def test_different_sizes_between_sessions(tmp_path):
    a = index_series(tmp_path / "a.nwb")
    b = index_series(tmp_path / "b.nwb", pixels={f"big{k}": picture(k, (12, 10)) for k in range(4)})
    with pytest.raises(MigvisError, match=r"different sizes .*: 6 x 5, 12 x 10"):
        shared_stimuli(read_sessions([a.path, b.path]))
    sessions = read_sessions([a.path, b.path], resize_px=(6, 5))
    assert shared_stimuli(sessions)["image"].shape == (8, 6, 5)


def test_grayscale_and_colour_sessions(tmp_path):
    a = index_series(tmp_path / "a.nwb")
    b = index_series(tmp_path / "b.nwb", pixels={f"rgb{k}": picture(k, (6, 5, 3)) for k in range(4)})
    image = shared_stimuli(read_sessions([a.path, b.path]))["image"]
    assert image.shape == (8, 6, 5, 3)
    np.testing.assert_array_equal(image[1], np.repeat(picture(1)[..., None], 3, axis=2))
    np.testing.assert_array_equal(image[5], picture(1, (6, 5, 3)))


def test_inspection_of_one_session(tmp_path):
    index = [*SHOWN, -1]
    trials = {
        "kind": ["xyxy"[k] for k in index],
        "yaw": [0.5 * k for k in index],
        "ok": [True] * 12 + [False],
    }
    truth = index_series(tmp_path / "a.nwb", index=index, trials=trials)
    found = inspect_session(truth.path, window_s=(0.0, 0.2), where="ok")
    assert json.loads(json.dumps(found)) == found
    assert found["layout"] == "index_series"
    assert found["found_in"] == "shown, trials"
    assert (found["n_units"], found["n_silent_units"]) == (3, 1)
    assert (found["n_presentations"], found["n_stimuli"], found["n_blank"]) == (12, 4, 1)
    assert found["image_shape"] == [6, 5]
    assert found["labels"] == {
        "kind": {"kind": "categorical", "n_values": 2},
        "yaw": {"kind": "numeric", "n_values": 4},
    }
    assert found["repeats"] == {"min": 3, "median": 3.0, "max": 3}
    counts = read_session(truth.path, window_s=(0.0, 0.2))["spike_count"].values
    assert found["median_rate_hz"] == pytest.approx(np.median(counts.mean(axis=0)) / 0.2)
    text = describe(found)
    for part in ("kind (categorical, 2 values)", "3 (1 silent)", "6 x 5", "index_series (shown, trials)"):
        assert part in text


def test_inspection_does_not_need_pixels(tmp_path):
    found = inspect_session(dicarlo_session(tmp_path / "a.nwb").path)
    assert found["image_shape"] is None
    assert found["layout"] == "dicarlo"
    assert "image shape    none" in describe(found)


def test_inspection_of_several_sessions_is_one_table(tmp_path):
    paths = two(tmp_path)
    found = inspect_session(paths)
    assert (found["n_stimuli"], found["n_shared_stimuli"]) == (4, 2)
    assert found["sessions"][1] == inspect_session(paths[1])
    lines = describe(found).splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["session", "layout", "units"]
    assert lines[-1] == "4 stimuli in all, 2 in every session"


def test_split_half_reliability_is_that_of_the_halves():
    rng = np.random.default_rng(0)
    stimulus = rng.permutation(np.repeat(np.arange(30), 4))
    counts = rng.poisson(np.array([[2.0, 5.0]]) * rng.uniform(0, 2, 30)[stimulus, None]).astype(np.uint16)
    halves = np.zeros((2, 30, 2))
    seen = np.zeros(30, int)
    for row, s in zip(counts, stimulus, strict=True):
        halves[seen[s] % 2, s] += row / 2
        seen[s] += 1
    expected = []
    for j in range(2):
        r = np.corrcoef(halves[0, :, j], halves[1, :, j])[0, 1]
        expected.append(2 * r / (1 + r))
    np.testing.assert_allclose(split_half_reliability(counts, stimulus), expected)


def test_reliability_without_repeats_is_not_defined():
    counts = np.arange(10, dtype=np.uint16).reshape(5, 2)
    assert np.isnan(split_half_reliability(counts, np.arange(5))).all()
    silent = split_half_reliability(np.zeros((8, 1), np.uint16), np.repeat(np.arange(4), 2))
    assert np.isnan(silent).all()
