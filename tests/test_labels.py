"""Labels: their kind, their code, and selections of them."""

import numpy as np
import pytest

from nwb_migvis.labels import Label, as_labels, code_labels, select


@pytest.mark.parametrize(
    ("values", "kind", "present"),
    [
        ([1, 2, 3], "numeric", [True, True, True]),
        ([1.0, np.nan, 3.0], "numeric", [True, False, True]),
        ([True, False, True], "categorical", [True, True, True]),
        (["a", "", "b"], "categorical", [True, False, True]),
        (np.array(["a", None, np.nan], dtype=object), "categorical", [True, False, False]),
    ],
)
def test_the_kind_follows_from_the_values(values, kind, present):
    label = Label.of("x", values)
    assert (label.kind, label.is_categorical) == (kind, kind == "categorical")
    assert label.present.tolist() == present


def test_a_period_makes_a_numeric_label_circular():
    labels = as_labels({"yaw": [0.0, 90.0], "kind": ["a", "b"]}, circular={"yaw": 360.0})
    assert (labels["yaw"].kind, labels["yaw"].period) == ("circular", 360.0)
    code = labels["yaw"].code()
    np.testing.assert_allclose(code.encode(labels["yaw"].values), [[1, 0], [0, 1]], atol=1e-12)
    assert Label.of("kind", ["a"], period=3.0).period == 0


def test_codes_are_of_labels_that_vary():
    labels = as_labels({"flat": [1.0, 1.0], "one": ["a", "a"], "size": [0.0, 2.0], "kind": ["b", "a"]})
    codes = {code.name: code for code in code_labels(labels)}
    assert set(codes) == {"size", "kind"}
    assert codes["kind"].classes == ("a", "b")
    np.testing.assert_allclose(codes["size"].encode(np.array([0.0, 2.0, 4.0]))[:, 0], [-1, 1, 3])
    assert codes["kind"].class_index(np.array(["b", "", "c"], dtype=object)).tolist() == [1, -1, -1]


def test_stimuli_are_selected_by_mask_or_index():
    labels = as_labels({"size": [0.0, 1.0, 2.0], "kind": ["a", "b", "a"]})
    some = select(labels, np.array([True, False, True]))
    assert some["size"].values.tolist() == [0.0, 2.0]
    assert some["kind"].classes == ("a",)
    assert repr(some["kind"]) == "Label 'kind': 1 classes, 2 of 2 stimuli"
