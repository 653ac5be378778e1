import numpy as np
import pandas as pd
import pytest

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.support import LIMIT, Support, within_support

GROUPS = LatentGroups(("pose", "place"), (2, 2), ((), ()))
SPLIT = np.repeat(["train", "test"], [300, 100])
Z = np.random.default_rng(0).normal(size=(400, 4))
DIRECTIONS = {("pose", "ones"): np.ones(2), ("place", "ones"): np.ones(2)}


def test_percentiles_are_those_of_held_out_stimuli():
    support = Support.of(Z, SPLIT)
    own = support.percentile(Z[SPLIT == "test"])
    np.testing.assert_allclose(np.sort(own), np.arange(1, 101))
    assert support.percentile(np.full((1, 4), 50.0)) == 100
    # A training stimulus is its own nearest.
    assert support.distance(Z[:50]).mean() < support.distance(Z[300:350]).mean()


@pytest.mark.parametrize("split", ["train", "test", "validation"])
def test_a_split_without_training_or_test_stimuli_is_refused(split):
    with pytest.raises(MigvisError, match="no stimulus has the split"):
        Support.of(np.zeros((4, 2)), np.full(4, split))


def test_distance_by_hand():
    support = Support(np.array([[0.0], [1.0], [2.0]]), np.array([[0.5]]))
    assert support.distance(np.array([[4.0]])) == pytest.approx((4 + 3 + 2) / 3)


def plan():
    made = plan_edits(
        np.flatnonzero(SPLIT == "test"),
        GROUPS,
        labels={},
        config=SynthesisConfig(n_pairs=4, n_dose=0, n_traversal=6),
        rng=np.random.default_rng(1),
    )
    return made


def test_traversals_stay_within_the_support_and_in_order():
    support, before = Support.of(Z, SPLIT), plan()
    after = within_support(before, Z, support, groups=GROUPS, directions=DIRECTIONS)
    pairs = before["role"] != "traversal"
    pd.testing.assert_frame_equal(after[pairs], before[pairs])
    moved = after[~pairs]
    assert (np.abs(moved["gamma"]) <= np.abs(before[~pairs]["gamma"])).all()
    assert (np.abs(moved["gamma"]) < 2).any() and (moved["gamma"] != 0).any()
    edge = np.percentile(support.distance(Z[SPLIT == "test"]), LIMIT)
    for _, row in moved.iterrows():
        goal = Z[row["source"]].copy()
        goal[GROUPS.slices[row["group"]]] += row["gamma"]
        start = support.distance(Z[row["source"]][None])[0]
        assert support.distance(goal[None])[0] <= max(edge, 1.1 * start) * (1 + 1e-6)
    for _, rows in moved.groupby(["group", "source"]):
        longest = rows["gamma"].to_numpy()
        np.testing.assert_allclose(longest[[1, 2]], longest[[0, 3]] / 2)


def test_nothing_is_shortened_that_stays_within():
    support = Support(np.random.default_rng(2).normal(scale=2, size=(20_000, 4)), 2 * Z)
    before = plan()
    after = within_support(before, Z, support, groups=GROUPS, directions=DIRECTIONS)
    pd.testing.assert_frame_equal(after, before)


@pytest.mark.parametrize("k", [2, 3, 8])
def test_what_guides_shuffled_edits_is_independent_of_the_target(k):
    kind = np.array([f"k{i % k}" for i in range(200)], dtype=object)
    shares = []
    for seed in range(20):
        rows = plan_edits(
            np.arange(80, 200),
            GROUPS,
            labels=as_labels({"kind": kind}),
            config=SynthesisConfig(n_pairs=100, n_traversal=0, n_dose=0),
            rng=np.random.default_rng([3, seed]),
        ).query("method == 'shuffled' and group == 'pose'")
        assert (kind[rows["guiding_stimulus"]] != kind[rows["source"]]).all()
        shares.append(np.mean(kind[rows["guiding_stimulus"]] == kind[rows["target"]]))
    assert np.mean(shares) == pytest.approx(1 / (k - 1), abs=0.03)
