"""Labels are what is constant within an image and varies between images; nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import N_IMAGES, SHOWN, add_trials, edited, index_series, new_file, start_times, write

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import describe, inspect_session, read_session

PER_IMAGE = {
    "category": ["cat", "dog", "cat", "dog"],
    "rotation_x": [10.5, -20.0, 33.25, 4.0],
    "size": [1, 2, 2, 1],
    "is_face": [True, False, False, True],
}


def per_presentation(values):
    return [values[k] for k in SHOWN]


def labels_of(session):
    return {
        str(name): coord.values.tolist()
        for name, coord in session.coords.items()
        if coord.dims == ("stimulus",) and name != "stimulus"
    }


def test_columns_of_trials_become_labels(tmp_path):
    trials = {name: per_presentation(values) for name, values in PER_IMAGE.items()}
    session = read_session(index_series(tmp_path / "a.nwb", trials=trials).path)
    assert labels_of(session) == {
        "category": ["cat", "dog", "cat", "dog"],
        "rotation_x": [10.5, -20.0, 33.25, 4.0],
        "size": [1.0, 2.0, 2.0, 1.0],
        "is_face": ["True", "False", "False", "True"],
    }
    assert session["size"].dtype == np.float64
    assert session["category"].dtype.kind == "U"


def test_what_is_no_label(tmp_path):
    trials = {
        "monitor": ["left"] * len(SHOWN),
        "gain": [0.5] * len(SHOWN),
        "image_file": per_presentation(["pic0", "pic1", "pic2", "pic3"]),
        "code": per_presentation([100, 101, 102, 103]),
        "md5": per_presentation(["q", "w", "e", "r"]),
        "image_hash": per_presentation(["q", "q", "e", "r"]),
        "shown_time": per_presentation([0.1, 0.2, 0.2, 0.1]),
        "reaction_s": list(np.linspace(0.2, 0.4, len(SHOWN))),
        "correct": [k % 2 == 0 for k in range(len(SHOWN))],
    }
    session = read_session(index_series(tmp_path / "a.nwb", trials=trials).path)
    assert labels_of(session) == {}
    np.testing.assert_array_equal(session["reaction_s"], trials["reaction_s"])
    assert session["correct"].dims == ("presentation",)
    assert "monitor" not in session.coords
    assert session.attrs["not_labels"]["monitor"] == "the same for every image"
    assert "code" not in session.coords


def test_a_number_with_fractions_may_be_one_to_one_with_the_images(tmp_path):
    trials = {"depth": per_presentation([0.1, 0.2, 0.3, 0.4])}
    session = read_session(index_series(tmp_path / "a.nwb", trials=trials).path)
    assert labels_of(session) == {"depth": [0.1, 0.2, 0.3, 0.4]}


def test_a_label_that_is_unknown_for_some_images(tmp_path):
    trials = {"yaw": per_presentation([1.5, np.nan, 2.5, np.nan])}
    session = read_session(index_series(tmp_path / "a.nwb", trials=trials).path)
    np.testing.assert_array_equal(session["yaw"], [1.5, np.nan, 2.5, np.nan])


def test_labels_come_from_the_trial_that_contains_a_presentation(tmp_path):
    """Trials of two presentations each; the label is the trial's, the outcome varies."""
    starts = start_times(8)
    path = index_series(tmp_path / "series.nwb", index=[0, 0, 1, 1, 0, 0, 1, 1], start_time=starts).path

    def add(nwb):
        nwb.add_trial_column("context", "context")
        nwb.add_trial_column("outcome", "outcome")
        for i in range(0, 8, 2):
            nwb.add_trial(starts[i] - 0.05, starts[i + 1] + 0.01, context=0.25 * (i % 4), outcome=i // 2)

    session = read_session(edited(path, tmp_path / "a.nwb", add))
    assert labels_of(session) == {"context": [0.0, 0.5]}
    assert session["outcome"].values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_trials_that_cover_only_some_presentations_say_nothing(tmp_path):
    truth = index_series(tmp_path / "series.nwb")
    some = {"category": per_presentation(PER_IMAGE["category"])[:6]}
    path = edited(truth.path, tmp_path / "a.nwb", lambda nwb: add_trials(nwb, truth.start_time[:6], **some))
    session = read_session(path)
    assert labels_of(session) == {}
    assert session.attrs["found_in"] == "shown"


def test_a_column_named_like_the_dataset_gets_a_longer_name(tmp_path):
    trials = {"image": per_presentation([1.5, 2.5, 2.5, 1.5]), "unit": list(range(len(SHOWN)))}
    session = read_session(index_series(tmp_path / "a.nwb", trials=trials).path)
    assert session["image_"].values.tolist() == [1.5, 2.5, 2.5, 1.5]
    assert session["unit_"].dims == ("presentation",)


def csv(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_labels_from_a_csv_beside_those_of_the_file(tmp_path):
    truth = index_series(tmp_path / "a.nwb", trials={"category": per_presentation(["y", "y", "", "x"])})
    labels = csv(
        tmp_path,
        "animal,stimulus,yaw,category,same,row\n"
        "owl,pic2,1,x,k,3\nowl,pic0,,y,k,1\nfox,pic3,2.5,x,k,4\n,pic1,1,y,k,2\n",
    )
    session = read_session(truth.path, labels=labels)
    found = labels_of(session)
    assert found.pop("yaw")[1:] == [1.0, 1.0, 2.5]
    assert np.isnan(session["yaw"][0])
    assert found == {"animal": ["owl", "", "owl", "fox"], "category": ["y", "y", "x", "x"]}
    assert session.attrs["not_labels"] == {
        "same": "the same for every image",
        "row": "another value for every image",
    }
    listed = describe(inspect_session(truth.path, labels=labels))
    assert "same (the same for every image)" in listed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus,category\npic0,cat\npic1,dog\npic2,cat\npic3,cat\n", "cat for stimulus 'pic3' .* has dog"),
        ("stimulus,category\npic0,1\npic1,2\npic2,1\npic3,2\n", "holds numbers and the session's label text"),
        ("stimulus,yaw\npic0,1.5\npic1,2.5\npic2,\npic3,2.6\n", r"2\.6 for stimulus 'pic3' .* has 2\.5"),
    ],
)
def test_a_csv_that_disagrees_with_the_file(tmp_path, text, message):
    trials = {
        "category": per_presentation(PER_IMAGE["category"]),
        "yaw": per_presentation([1.5, 2.5, 1.5, 2.5]),
    }
    truth = index_series(tmp_path / "a.nwb", trials=trials)
    with pytest.raises(MigvisError, match=message):
        read_session(truth.path, labels=csv(tmp_path, text))


def test_a_csv_that_agrees_but_for_rounding_and_what_it_leaves_out(tmp_path):
    truth = index_series(tmp_path / "a.nwb", trials={"yaw": per_presentation([1 / 3, 2.5, 1.5, np.nan])})
    rows = "stimulus,yaw\npic0,0.33333333\npic1,2.5\npic2,\npic3,4\n"
    session = read_session(truth.path, labels=csv(tmp_path, rows))
    assert session["yaw"].values.tolist() == [0.33333333, 2.5, 1.5, 4.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stimulus,a\npic0,1\npic0,2\n", "has stimulus 'pic0' twice"),
        ("stimulus,a\npic0,1\npicX,2\npicY,2\n", "names 2 stimuli that are not in the session, first 'picX'"),
        ("stimulus,a\npic0,1\npic1,1\npic3,2\n", "lacks 1 of 4 stimuli, first 'pic2'"),
        ("image,a\npic0,1\n", "has no column 'stimulus'"),
        ("stimulus,a,b,a\npic0,1,2,3\n", "has the column 'a' twice"),
        ("stimulus;a\npic0;1\n", "separated by semicolons .* expected commas"),
        ("stimulus\ta\npic0\t1\n", "separated by tabs"),
        ("stimulus,a\npic0,1,2\npic1,1,2\n", "line 2 has 3 cells, and the header 2"),
        ("stimulus,a\npic0,1\npic1,inf\npic2,3\npic3,4\n", "infinity in column 'a' for stimulus 'pic1'"),
        ("", "is not a CSV"),
        ('a,"b\n1,2,3\n"4', "is not a CSV|has no column"),
    ],
)
def test_csv_that_does_not_fit(tmp_path, text, message):
    truth = index_series(tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match=message) as error:
        read_session(truth.path, labels=csv(tmp_path, text))
    assert "\n" not in str(error.value)


def test_csv_that_is_absent(tmp_path):
    truth = index_series(tmp_path / "a.nwb")
    with pytest.raises(MigvisError, match="No such file"):
        read_session(truth.path, labels=tmp_path / "absent.csv")


def test_csv_may_name_images_of_the_file_that_were_not_shown(tmp_path):
    truth = index_series(tmp_path / "a.nwb", index=[0, 1, 1, 0])
    rows = "".join(f"pic{k},{k % 2}.5\n" for k in range(N_IMAGES))
    session = read_session(truth.path, labels=csv(tmp_path, "stimulus,a\n" + rows))
    assert labels_of(session) == {"a": [0.5, 1.5]}


def test_attributes_of_the_images_are_labels(tmp_path):
    """Image types of an extension can say more of an image; the schema's own fields say nothing."""
    from nwb_migvis.read.labels import labels_of_images

    attributes = [{"pitch": 1.5, "kind": "a"}, {"pitch": 2.5, "kind": "b"}, {"pitch": 2.5, "kind": "a"}, {}]
    found = labels_of_images(attributes)
    np.testing.assert_array_equal(found["pitch"], [1.5, 2.5, 2.5, np.nan])
    assert found["kind"].tolist() == ["a", "b", "a", ""]
    assert labels_of_images([{"a": 1}, {"a": 2}]) == {}


def test_no_label_when_nothing_is_in_the_file(tmp_path):
    nwb = new_file()
    add_trials(nwb, start_times(), image_name=per_presentation("abcd"))
    session = read_session(write(nwb, tmp_path / "a.nwb"), stimulus="image_name")
    assert labels_of(session) == {}
