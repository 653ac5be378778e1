"""Directions of traversals: axes and labels that were planted."""

import numpy as np
import pytest

from nwb_migvis import MigvisError
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.synthesis.editing.directions import check_directions, direction_vectors

GROUPS = LatentGroups(("a", "b"), (3, 2), ((), ()))
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(2000, 5)) * [1.0, 3.0, 0.5, 1.0, 2.0]
SIZE = Z[:, 0] - Z[:, 2] + 0.1 * RNG.normal(size=2000)
KIND = np.where(Z[:, 3] > 0, "cat", "dog").astype(object)
VALUES = {"size": SIZE, "kind": KIND, "angle": np.linspace(0, 359, 2000)}
LABELS = as_labels(VALUES, circular={"angle": 360.0})


def steps(*names):
    return direction_vectors(names, Z, groups=GROUPS, labels=LABELS)


def test_principal_axes_step_by_one_standard_deviation_along_them():
    found = steps("pc1", "pc2", "ones")
    np.testing.assert_allclose(found["a", "pc1"], [0, 3, 0], atol=0.25)
    np.testing.assert_allclose(found["a", "pc2"], [1, 0, 0], atol=0.25)
    np.testing.assert_allclose(found["b", "pc1"], [0, 2], atol=0.15)
    np.testing.assert_array_equal(found["b", "ones"], [1, 1])


def test_a_label_rises_along_its_direction():
    found = steps("size", "kind=cat", "kind=dog")
    line = found["a", "size"] / np.linalg.norm(found["a", "size"])
    np.testing.assert_allclose(line, np.array([1, 0, -1]) / np.sqrt(2), atol=0.02)
    assert np.linalg.norm(found["a", "size"]) == pytest.approx((Z[:, :3] @ line).std())
    np.testing.assert_allclose(found["b", "kind=cat"], [1, 0], atol=0.1)
    np.testing.assert_allclose(found["b", "kind=dog"], -found["b", "kind=cat"], atol=1e-9)


def test_missing_labels_are_left_out_and_constant_ones_give_no_direction():
    some = SIZE.copy()
    some[::2] = np.nan
    labels = as_labels({"size": some, "flat": np.ones(2000)})
    found = direction_vectors(["size", "flat"], Z, groups=GROUPS, labels=labels)
    assert np.isfinite(found["a", "size"]).all() and found["a", "size"][0] > 0.5
    assert not found["a", "flat"].any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("siz", "is unknown; expected one such as size"),
        ("kind", "is unknown; expected one such as kind="),
        ("kind=cow", "kind="),
        ("size=3", "is unknown"),
        ("pc3", "'b' has 2 latents; expected pc1 to pc2"),
        ("pc0", "is unknown"),
        ("angle", "the label wraps"),
    ],
)
def test_directions_that_there_are_not(name, message):
    with pytest.raises(MigvisError, match=message):
        check_directions([name], groups=GROUPS, labels=LABELS)


def test_directions_that_there_are():
    names = ["ones", "pc1", "pc2", "size", "kind=cat", "angle"]
    check_directions(names, groups=GROUPS, labels=as_labels(VALUES, circular={"angle": 0.0}))


def test_an_axis_is_checked_against_the_groups_that_are_moved():
    check_directions(["pc3"], groups=LatentGroups(("a",), (3,), ((),)), labels=as_labels(VALUES))
    found = steps("pc3", "ones")
    assert set(found) == {("a", "pc3"), ("a", "ones"), ("b", "ones")}
    np.testing.assert_allclose(found["a", "pc3"], [0, 0, 0.5], atol=0.1)
