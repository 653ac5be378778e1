import numpy as np
import pytest
import xarray as xr

from nwb_migvis.evidence.decoding import Reading
from nwb_migvis.evidence.gaps import LabelReadings, gap_intervals, mig_interval
from nwb_migvis.evidence.independence import dependence_records, group_dependence
from nwb_migvis.evidence.low_level import low_level_features
from nwb_migvis.evidence.side_effects import QUANTITIES, side_effects
from nwb_migvis.evidence.transfer import Draws
from nwb_migvis.groups import LatentGroups
from nwb_migvis.levels import Exchange


def test_quantities_by_hand():
    step = np.zeros((1, 4, 4), np.uint8)
    step[:, :, 2:] = 100
    luminance, contrast, edges, fine = low_level_features(step)[0, :4]
    assert luminance == 50 and contrast == 50
    # One of three steps along x is 100, none along y.
    assert edges == pytest.approx(100 * np.sqrt(4 / 24))
    assert fine == pytest.approx(100 * np.sqrt(8 / 16))
    flat = low_level_features(np.full((1, 4, 4, 3), 7, np.uint8))[0, :4]
    np.testing.assert_allclose(flat, [7, 0, 0, 0])


def test_brighter_edits_are_named_and_others_are_not():
    rng = np.random.default_rng(0)
    images = rng.integers(50, 150, (60, 8, 8)).astype(np.uint8)
    source, target = np.arange(20), np.arange(20, 40)
    rows = {"pmi": images[source] + 40, "none": images[source] + rng.integers(0, 2, (20, 8, 8))}
    edits = xr.Dataset(
        {"image": (("edit", "y", "x"), np.concatenate(list(rows.values())).astype(np.uint8))},
        coords={
            "group": ("edit", ["pose"] * 40),
            "method": ("edit", np.repeat(list(rows), 20)),
            "source": ("edit", [str(i) for i in source] * 2),
            "target": ("edit", [str(i) for i in target] * 2),
        },
    )
    ids = [str(i) for i in range(60)]
    table = side_effects(edits, images=images, stimulus=ids, real=images[40:], draws=Draws(0, 20, 199))
    assert list(table["pose"]["pmi"]) == list(QUANTITIES)
    brighter = table["pose"]["pmi"]["luminance"]
    unit = low_level_features(images[40:])[:, 0].std()
    assert brighter["change"] == pytest.approx(40 / unit)
    assert brighter["beyond_none"] == pytest.approx(39.5 / unit, rel=0.01)
    assert brighter["p_value"] == 0.005 <= brighter["q_value"] < 0.05
    assert brighter["retention"] == pytest.approx(1) and abs(brighter["transfer"]) < 1e-9
    assert table["pose"]["pmi"]["contrast"]["change"] == pytest.approx(0)


GROUPS = LatentGroups(("a", "b", "c"), (2, 2, 2), ((), (), ()))


def test_groups_that_correlate_are_told_from_independent_ones():
    p = []
    for seed in range(30):
        z = np.random.default_rng([1, seed]).normal(size=(120, 6))
        z[:, 2:4] = 0.6 * z[:, :2] + 0.8 * z[:, 2:4]
        reading = Reading(exchange=Exchange.singles(120), seed=seed, n_permutations=39)
        found = group_dependence(z, GROUPS, reading)
        p.append(found["p_value"].values)
    first, *others = np.array(p).T
    assert np.mean(first <= 0.05) > 0.9
    assert np.mean(np.array(others) <= 0.05) < 0.15
    (record, *_) = dependence_records(found)
    assert record["group"] == "a" and record["other"] == "b" and record["score"] == found["score"].values[0]
    assert found["score"].values[0] == pytest.approx(0.36 / 2, abs=0.12)


def test_few_stimuli_say_nothing_of_independence():
    z = np.random.default_rng(2).normal(size=(12, 6))
    found = group_dependence(z, GROUPS, Reading(exchange=Exchange.singles(12), seed=0, n_permutations=9))
    assert np.isnan(found["p_value"]).all() and dependence_records(found) == ()


def test_intervals_of_gaps_hold_planted_ones():
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(40):
        truth = rng.integers(0, 4, 120)
        reads = {
            name: np.where(rng.random(120) < share, truth, rng.integers(0, 4, 120))
            for name, share in (("a", 0.8), ("b", 0.4))
        }
        coded = {name: np.eye(4)[read] for name, read in reads.items()}
        label = LabelReadings(np.eye(4)[truth], coded, True, truth, reads)
        weight = Exchange.singles(120).bootstrap(200, rng)
        low, high = gap_intervals({"kind": label}, weight, supervised_by={"a": ("kind",)})["a"]
        tables = [(share * np.eye(4) + (1 - share) / 4) / 4 for share in (0.8, 0.4)]
        information = [(table * np.log(16 * table)).sum() for table in tables]
        mig = mig_interval(label, weight, rng)
        gap = (information[0] - information[1]) / np.log(4)
        inside.append((low <= 0.4 <= high, mig[0] <= gap <= mig[1]))
    assert (np.mean(inside, axis=0) >= 0.85).all()


def test_a_reading_that_always_says_the_most_common_class_scores_nothing_in_any_resample():
    truth = np.repeat([0, 1], [90, 10])
    always = np.zeros(100, dtype=int)
    reads = {"always": always, "right": truth}
    label = LabelReadings(
        np.eye(2)[truth], {name: np.eye(2)[read] for name, read in reads.items()}, True, truth, reads
    )
    weight = Exchange.singles(100).bootstrap(50, np.random.default_rng(0))
    scores = label.scores(weight[(weight[:, 90:] > 0).any(axis=1)])
    np.testing.assert_allclose(scores["always"], 0, atol=1e-12)
    np.testing.assert_allclose(scores["right"], 1)
