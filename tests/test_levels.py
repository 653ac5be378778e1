import numpy as np
import pytest
import xarray as xr

from nwb_migvis.config import SplitConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import design_notes
from nwb_migvis.evidence.low_level import nuisance_basis
from nwb_migvis.evidence.significance import permutations
from nwb_migvis.evidence.specific import HeldOut, other_features, read_beyond, share_left, what_is_left
from nwb_migvis.labels import Label, as_labels
from nwb_migvis.latents import split_shared_stimuli, split_stimuli
from nwb_migvis.levels import Exchange, choose_design, determined_by


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


def names(index):
    return np.array([f"object {i}" for i in index], dtype=object)


def test_combinations_that_repeat_are_kept_together_and_noted():
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(24), 10)
    labels = as_labels({"x": rng.normal(size=24)[objects], "kind": kinds(rng.integers(0, 3, 24)[objects])})
    design = choose_design(labels, n=240)
    assert {name: it.n_levels for name, it in design.by_label.items()} == {"x": 24, "kind": 24}
    assert design.split.n_levels == 24
    assert "240 images have 24 combinations of labels" in design.notes[0] and "split.by" in design.notes[0]
    alone = choose_design(labels, n=240, by="stimulus")
    assert alone.split.is_single and not alone.notes


def test_images_without_labels_are_not_taken_for_one_object():
    x = np.where(np.arange(200) < 20, np.random.default_rng(0).normal(size=200), np.nan)
    design = choose_design(as_labels({"x": x}), n=200, supervising=["x"])
    assert design.split.is_single and not design.notes


def test_a_category_that_names_the_combinations_is_not_tested():
    objects = np.repeat(np.arange(24), 10)
    labels = as_labels({"x": np.random.default_rng(0).normal(size=24)[objects], "object": names(objects)})
    design = choose_design(labels, n=240, supervising=["x", "object"])
    assert design.split.n_levels == 24 and set(design.unmeasured) == {"object"}


def test_few_combinations_are_not_tested():
    size = np.repeat([1.0, 2.0, 3.0], 40)
    design = choose_design(as_labels({"size": size}), n=120, supervising=["size"])
    assert design.split.is_single and "too few to exchange" in design.unmeasured["size"]


def test_a_named_column_keeps_its_levels_together():
    objects = np.repeat(np.arange(12), 10)
    labels = as_labels({"pose": np.random.default_rng(0).normal(size=120), "object": names(objects)})
    design = choose_design(labels, n=120, supervising=["pose", "object"], by="object")
    assert design.split.n_levels == design.by_label["pose"].n_levels == 12 and not design.notes
    assert "kept together" in design.unmeasured["object"]
    with pytest.raises(MigvisError, match=r"split\.by: found 'thing'; expected a label of the images"):
        choose_design(labels, n=120, by="thing")


def test_a_column_with_gaps_is_refused():
    labels = as_labels({"object": np.array(["a", "", "b", "b"], dtype=object)})
    with pytest.raises(MigvisError, match="has no value for 1 of 4 images"):
        choose_design(labels, n=4, by="object")


def test_independent_images_are_exchanged_one_by_one():
    rng = np.random.default_rng(0)
    labels = as_labels({"x": rng.normal(size=60), "kind": kinds(rng.integers(0, 3, 60))})
    design = choose_design(labels, n=60, supervising=["x", "kind"])
    assert design.split.is_single and not design.notes and not design.unmeasured
    assert choose_design(as_labels({"kind": kinds(np.arange(60) % 3)}), n=60).split.is_single


def test_a_kind_that_every_object_has_is_exchanged_over_objects():
    rng = np.random.default_rng(0)
    objects = np.repeat(np.arange(12), 10)
    labels = as_labels({"pose": rng.normal(size=120), "object": names(objects), "kind": kinds(objects // 4)})
    design = choose_design(labels, n=120, supervising=["pose", "kind"])
    assert design.split.n_levels == 12 and "kind is the same for all images of one object" in design.notes[0]
    learned = choose_design(labels, n=120, supervising=["pose", "kind", "object"])
    assert learned.split.is_single and learned.by_label["kind"].n_levels == 12
    assert "set split.by = 'object'" in learned.unmeasured["kind"]
    assert determined_by(labels["kind"], {"object": labels["object"]}) == {"object"}
    assert determined_by(labels["object"], {"kind": labels["kind"]}) == set()


def test_splits_keep_levels_whole_and_folds_apart():
    levels = Exchange(np.repeat(np.arange(20), 6))
    rows = [
        split_stimuli(120, SplitConfig(folds=5), rng=np.random.default_rng(0), levels=levels, fold=k)
        for k in range(5)
    ]
    for split in rows:
        assert all(len(set(split[level])) == 1 for level in levels.members)
        assert (split == "test").sum() == 24 and (split == "validation").sum() == 12
    assert (np.sum([split == "test" for split in rows], axis=0) == 1).all()
    with pytest.raises(MigvisError, match="expected parts that do not overlap"):
        SplitConfig(folds=6)


def test_sessions_that_share_stimuli_split_levels_whole():
    shown = np.zeros((2, 160), dtype=bool)
    shown[0, :100] = shown[1, 60:] = True
    levels = Exchange(np.repeat(np.arange(40), 4))
    split = split_shared_stimuli(shown, "ab", SplitConfig(), rng=np.random.default_rng(0), levels=levels)
    assert all(len(set(split[level])) == 1 for level in levels.members)
    assert all({"train", "validation", "test"} == set(split[saw]) for saw in shown)


def held(n, *, exchange=None, n_permutations=99, seed=0):
    test = np.arange(n) % 4 == 0
    return HeldOut(
        train=~test,
        test=test,
        exchange=exchange or Exchange.singles(n),
        seed=seed,
        n_permutations=n_permutations,
        n_bootstrap=50,
    )


def read(z, label, features, **options):
    left = what_is_left(label, features)
    cells = read_beyond(
        {"g": z}, {"x": left}, shares={"x": share_left(label, left)}, held_out=held(len(z), **options)
    )
    return cells["g", "x"]


def beyond_kind(seed, *, coding):
    """P-value of a number that follows a category, from latents that know the category and `coding` of it."""
    rng = np.random.default_rng([1, seed])
    kind, noise = rng.integers(0, 3, 240), rng.normal(size=240)
    z = rng.normal(size=(3, 2))[kind] + 0.3 * rng.normal(size=(240, 2))
    z[:, 0] += coding * noise
    labels = as_labels({"x": kind - 1 + 0.7 * noise, "kind": kinds(kind)})
    return read(z, labels["x"], other_features("x", labels, seed=seed), n_permutations=39, seed=seed).p_value


def test_a_number_is_not_read_from_latents_that_know_the_category_alone():
    assert np.mean([beyond_kind(seed, coding=0.0) < 0.05 for seed in range(25)]) <= 0.16
    assert np.mean([beyond_kind(seed, coding=1.0) < 0.05 for seed in range(10)]) >= 0.9


def beyond_brightness(seed, *, coding):
    """P-value of a category that follows brightness, from latents that know brightness and `coding` of it."""
    rng = np.random.default_rng([5, seed])
    kind = rng.integers(0, 3, 600)
    brightness = 0.8 * (kind - 1.0) + 0.6 * rng.normal(size=600)
    z = np.tanh(np.outer(brightness, rng.choice([-1.0, 1.0], 2) * rng.uniform(0.5, 1.5, 2)))
    z += 0.05 * rng.normal(size=z.shape) + coding * rng.normal(size=(3, 2))[kind]
    labels = as_labels({"x": rng.normal(size=600), "kind": kinds(kind)})
    nuisances = nuisance_basis(np.column_stack([brightness, rng.normal(size=(600, 4))]))
    left = what_is_left(labels["kind"], other_features("kind", labels, seed=seed), nuisances)
    options = {"shares": {"x": share_left(labels["kind"], left)}, "held_out": held(600, n_permutations=39)}
    return read_beyond({"g": z}, {"x": left}, **options)["g", "x"].p_value


def test_a_category_is_not_read_from_latents_that_know_brightness_alone():
    assert np.mean([beyond_brightness(seed, coding=0.0) < 0.05 for seed in range(40)]) <= 0.1
    assert np.mean([beyond_brightness(seed, coding=0.5) < 0.05 for seed in range(10)]) >= 0.9


def test_what_is_left_does_not_go_with_brightness_that_another_label_goes_with():
    rng = np.random.default_rng(6)
    kind = rng.integers(0, 3, 900)
    brightness = 0.5 * (kind - 1.0) + 0.8 * rng.normal(size=900)
    own = rng.normal(size=900)
    labels = as_labels({"x": 0.6 * (kind - 1.0) + 0.6 * brightness + 0.5 * own, "kind": kinds(kind)})
    nuisances = nuisance_basis(brightness[:, None])
    left = what_is_left(labels["x"], other_features("x", labels, seed=0), nuisances)[:, 0]
    assert abs(np.corrcoef(left, brightness)[0, 1]) < 0.01
    assert max(abs(np.corrcoef(left, kind == k)[0, 1]) for k in range(3)) < 0.05
    assert np.corrcoef(left, own)[0, 1] > 0.98


def test_few_stimuli_leave_something_of_a_label_that_nothing_determines():
    rng = np.random.default_rng(7)
    numbers = {f"x{i}": rng.normal(size=120) for i in range(5)}
    labels = as_labels({"kind": kinds(rng.integers(0, 3, 120)), **numbers})
    nuisances = nuisance_basis(rng.normal(size=(120, 4)))
    left = what_is_left(labels["kind"], other_features("kind", labels, seed=0), nuisances)
    assert share_left(labels["kind"], left) > 0.5


def test_a_label_of_levels_is_not_read_from_latents_that_know_levels():
    p_values = []
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        level = np.repeat(np.arange(24), 4)
        z = rng.normal(size=(24, 3))[level] + 0.1 * rng.normal(size=(96, 3))
        label = Label.of("x", rng.normal(size=24)[level])
        whole = np.isin(level, rng.permutation(24)[:8])
        design = HeldOut(
            train=~whole, test=whole, exchange=Exchange(level), seed=seed, n_permutations=39, n_bootstrap=9
        )
        left = what_is_left(label, np.zeros((96, 0)))
        p_values.append(
            read_beyond({"g": z}, {"x": left}, shares={"x": 1.0}, held_out=design)["g", "x"].p_value
        )
    assert np.mean(np.array(p_values) <= 0.05) <= 0.15


def test_a_label_that_another_determines_has_nothing_left():
    x = np.random.default_rng(0).normal(size=80)
    labels = as_labels({"x": x, "twice": 2 * x})
    specific = read(x[:, None], labels["x"], other_features("x", labels, seed=0))
    assert np.isnan(specific.score) and specific.left < 0.05


def test_a_perfect_reading_scores_one():
    x = np.random.default_rng(0).normal(size=200)
    specific = read(x[:, None], Label.of("x", x), np.zeros((200, 0)), n_permutations=19)
    assert specific.score == pytest.approx(1, abs=0.01) and specific.p_value == 0.05
    assert specific.interval[0] <= specific.score <= specific.interval[1]


def test_too_few_levels_are_no_test():
    x = np.random.default_rng(0).normal(size=40)
    specific = read(x[:, None], Label.of("x", x), np.zeros((40, 0)), exchange=Exchange(np.arange(40) // 10))
    assert np.isnan(specific.score) and specific.left == pytest.approx(1)


@pytest.mark.parametrize(("n", "said"), [(80, "tests on 16 of 80 images"), (200, "")])
def test_few_images_are_noted_before_any_fit(n, said):
    x = np.random.default_rng(0).normal(size=n)
    session = xr.Dataset(coords={"stimulus": names(range(n)), "x": ("stimulus", x)})
    notes = " ".join(design_notes(session))
    assert said in notes and ("split.folds = 4" in notes) == bool(said)
