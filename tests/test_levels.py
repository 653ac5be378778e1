import numpy as np
import pytest

from nwb_migvis.evidence.decoding import Reading
from nwb_migvis.evidence.significance import permutations
from nwb_migvis.evidence.specific import decode_beyond, other_features, what_is_left
from nwb_migvis.labels import Label, as_labels
from nwb_migvis.levels import Exchange, determined_by, label_exchanges


def kinds(index):
    return np.array(list("abcdef"), dtype=object)[index]


def test_labels_of_levels_are_permuted_over_levels():
    level = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    drawn = Exchange(level).permutations(50, np.random.default_rng(0))
    per_level = [{tuple(np.unique(level[row[level == k]])) for k in range(3)} for row in drawn]
    assert all(sorted(levels) == [(0,), (1,), (2,)] for levels in per_level)
    assert len({tuple(level[row]) for row in drawn}) == 6


def test_single_rows_are_exchanged_as_before():
    drawn = Exchange.singles(9).permutations(5, np.random.default_rng(1))
    np.testing.assert_array_equal(drawn, permutations(9, 5, rng=np.random.default_rng(1)))


def test_levels_stay_whole_in_folds_and_resamples():
    exchange = Exchange.of(["b", "a", "b", "", "a", ""])
    assert exchange.n_levels == 4
    fold = exchange.folds(2, np.random.default_rng(0))
    assert fold[0] == fold[2] and fold[1] == fold[4] and set(fold) == {0, 1}
    weight = exchange.bootstrap(200, np.random.default_rng(0))
    assert (weight[:, 0] == weight[:, 2]).all() and not (weight[:, 0] == weight[:, 1]).all()
    one_each = np.array([0, 1, 3, 5])
    assert (weight[:, one_each].sum(axis=1) == 4).all()
    assert exchange[np.array([0, 2, 5])].n_levels == 2


def test_combinations_that_repeat_are_exchanged_and_noted():
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(24), 10)
    labels = as_labels({"x": rng.normal(size=24)[objects], "kind": kinds(rng.integers(0, 3, 24)[objects])})
    by_label, note = label_exchanges(labels)
    assert {name: it.n_levels for name, it in by_label.items()} == {"x": 24, "kind": 24}
    assert "240 images have 24 combinations of labels" in note and "split.by" in note
    named, note = label_exchanges(labels, by=Exchange(objects // 2))
    assert named["x"].n_levels == 12 and note == ""


def test_independent_images_are_exchanged_one_by_one():
    rng = np.random.default_rng(0)
    labels = as_labels({"x": rng.normal(size=60), "kind": kinds(rng.integers(0, 3, 60))})
    by_label, note = label_exchanges(labels)
    assert all(it.is_single for it in by_label.values()) and note == ""


def test_a_kind_that_every_object_has_is_exchanged_over_objects():
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(12), 10)
    names = np.array([f"object {i}" for i in objects], dtype=object)
    labels = as_labels({"pose": rng.normal(size=120), "object": names, "kind": kinds(objects // 4)})
    by_label, _ = label_exchanges(labels)
    assert by_label["kind"].n_levels == 12
    assert by_label["object"].is_single and by_label["pose"].is_single
    assert determined_by(labels["kind"], {"object": labels["object"]}) == {"object"}
    assert determined_by(labels["object"], {"kind": labels["kind"]}) == set()


def beyond_kind(seed, *, coding):
    """P-value of a number that follows a category, from latents that know the category and `coding` of it."""
    rng = np.random.default_rng([1, seed])
    kind, noise = rng.integers(0, 3, 240), rng.normal(size=240)
    z = rng.normal(size=(3, 2))[kind] + 0.3 * rng.normal(size=(240, 2))
    z[:, 0] += coding * noise
    labels = as_labels({"x": kind - 1 + 0.7 * noise, "kind": kinds(kind)})
    left = what_is_left(labels["x"], other_features("x", labels, seed=seed))[:60]
    reading = Reading(exchange=Exchange.singles(60), seed=seed, n_permutations=39)
    return decode_beyond(z[:60], left, reading, total=1.0, n_bootstrap=20).p_value


def test_a_number_is_not_read_from_latents_that_know_the_category_alone():
    assert np.mean([beyond_kind(seed, coding=0.0) < 0.05 for seed in range(25)]) <= 0.16
    assert np.mean([beyond_kind(seed, coding=1.0) < 0.05 for seed in range(10)]) >= 0.9


def test_a_label_that_another_determines_has_nothing_left():
    x = np.random.default_rng(0).normal(size=80)
    labels = as_labels({"x": x, "twice": 2 * x})
    left = what_is_left(labels["x"], other_features("x", labels, seed=0))
    reading = Reading(exchange=Exchange.singles(80), seed=0, n_permutations=9)
    specific = decode_beyond(x[:, None], left, reading, total=1.0)
    assert np.isnan(specific.score) and specific.left < 0.05


def test_a_perfect_reading_scores_one():
    x = np.random.default_rng(0).normal(size=200)
    reading = Reading(exchange=Exchange.singles(200), seed=0, n_permutations=19)
    left = what_is_left(Label.of("x", x), np.zeros((200, 0)))
    specific = decode_beyond(x[:, None], left, reading, total=1.0, n_bootstrap=50)
    assert specific.score == pytest.approx(1, abs=0.01) and specific.p_value == 0.05
    assert specific.interval[0] <= specific.score <= specific.interval[1]
