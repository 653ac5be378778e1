"""Dimension, disentanglement, matching, variance beyond features: closed forms and planted truth."""

import numpy as np
import pytest
from scipy import stats

from nwb_migvis.evidence.beyond import Given, gabor_energies, image_features, label_features, variance_beyond
from nwb_migvis.evidence.decoding import decode_labels
from nwb_migvis.evidence.dimension import participation_ratio, twonn_dimension
from nwb_migvis.evidence.disentanglement import group_mig, group_sap, mutual_information
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.likelihood import bits_per_spike
from nwb_migvis.evidence.stability import beyond_strangers, linear_cka, match_groups, mean_cca
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.levels import Exchange


def test_participation_ratio_of_known_covariances():
    z = np.random.default_rng(0).normal(size=(20000, 4))
    assert participation_ratio(z) == pytest.approx(4, abs=0.02)
    sd = np.array([2.0, 1.0, 0.0, 0.0])
    assert participation_ratio(z * sd) == pytest.approx((4 + 1) ** 2 / (16 + 1), abs=0.03)
    assert np.isnan(participation_ratio(np.ones((5, 2))))


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_twonn_counts_the_dimensions_of_a_curved_sheet(dimension):
    u = np.random.default_rng(dimension).uniform(size=(3000, dimension))
    bent = np.concatenate([u, np.sin(2 * u), u**2], axis=1)
    assert twonn_dimension(bent) == pytest.approx(dimension, rel=0.08)


def test_twonn_needs_different_points():
    assert np.isnan(twonn_dimension(np.repeat(np.arange(5.0), 10)[:, None]))


def test_mutual_information_of_known_tables():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 4, 5000)
    assert mutual_information(a, a) == pytest.approx(np.log(4), abs=0.01)
    assert mutual_information(a, rng.integers(0, 4, 5000)) == pytest.approx(0, abs=0.003)
    # A symmetric channel that errs in one of four cases, to any other value.
    wrong = rng.random(5000) < 0.25
    b = np.where(wrong, (a + rng.integers(1, 4, 5000)) % 4, a)
    capacity = np.log(4) + 0.75 * np.log(0.75) + 0.25 * np.log(0.25 / 3)
    assert mutual_information(a, b) == pytest.approx(capacity, abs=0.03)


def test_gaps_are_one_for_a_label_held_alone_and_zero_for_one_held_twice():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(600, 4))
    z[:, 2] = z[:, 1]
    kind = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, 600)]
    z[:, 3] = np.select([kind == "a", kind == "b"], [-3.0, 0.0], 3.0) + 0.1 * z[:, 3]
    labels = {"alone": z[:, 0], "twice": z[:, 1], "kind": kind}
    found = decode_labels(z, as_labels(labels), groups=LatentGroups(("x", "y"), (2, 2), ((), ())), seed=0)
    mig = group_mig(found["information"], found["entropy"])
    sap = group_sap(found["scaled"])
    right = found["score"].sel(label="kind")
    np.testing.assert_allclose(found["scaled"].sel(label="kind"), (right - 1 / 3) / (2 / 3))
    assert mig.sel(label="alone") > 0.85 and sap.sel(label="alone") > 0.95
    assert mig.sel(label="twice") < 0.1 and sap.sel(label="twice") < 0.02
    assert mig.sel(label="kind") > 0.9 and 0.8 < sap.sel(label="kind") < 1 + 1e-9
    alone = found.isel(group=[0])
    assert np.isnan(group_mig(alone["information"], alone["entropy"])).all()


def test_own_labels_are_tested_together():
    rng = np.random.default_rng(3)
    z = rng.normal(size=(120, 4))
    labels = {"x": z[:, 0] + 2 * rng.normal(size=120), "y": z[:, 1] + 2 * rng.normal(size=120)}
    found = decode_labels(
        z,
        as_labels(labels),
        groups=LatentGroups(("own", "other"), (2, 2), (("x", "y"), ())),
        n_permutations=199,
        seed=0,
    )
    assert found["own_p"].sel(group="own") == 1 / 200
    assert found["own_score"].sel(group="own") == pytest.approx(found["score"].sel(group="own").mean().item())
    assert np.isnan(found["own_p"].sel(group="other"))
    assert (found["q_value"] >= found["p_value"]).all()
    assert abs(found["chance"]).max() < 0.2


def test_matching_finds_the_permutation_of_groups():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(500, 6))
    turned = [z[:, 2 * g : 2 * g + 2] @ stats.ortho_group.rvs(2, random_state=g) for g in (2, 0, 1)]
    groups = LatentGroups(("a", "b", "c"), (2, 2, 2), ((), (), ()))
    for measure in ("cka", "cca"):
        found = match_groups(z, np.hstack(turned), groups_a=groups, groups_b=groups, measure=measure)
        assert found.partner == {"a": "b", "b": "c", "c": "a"}
        assert min(found.similarity.values()) == pytest.approx(1)


def test_similarities_of_known_cases():
    rng = np.random.default_rng(5)
    z, w = rng.normal(size=(2, 4000, 3))
    mixed = z @ rng.normal(size=(3, 3))
    assert mean_cca(z, mixed) == pytest.approx(1) and linear_cka(z, mixed) < 1
    assert mean_cca(z, w) < 0.06 and linear_cka(z, w) < 0.01
    noisy = z + w
    assert mean_cca(z, noisy) == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert linear_cka(z, np.ones((4000, 2))) == 0 and mean_cca(z, np.ones((4000, 2))) == 0


def _responses(z, labels, *, rng, share):
    """Halves of units that follow a label's square and, for a part `share` of the variance, a latent."""
    signal = np.sqrt(1 - share) * (labels**2 - 1) / np.sqrt(0.8) + np.sqrt(share) * z[:, 0]
    clean = signal[:, None] * rng.choice([-1, 1], 20)
    return [clean + 0.7 * rng.normal(size=clean.shape) for _ in range(2)]


def test_variance_beyond_labels_is_what_was_planted():
    rng = np.random.default_rng(6)
    n = 2000
    label, hidden = rng.uniform(-np.sqrt(3), np.sqrt(3), (2, n))
    train = np.arange(n) < 1400
    a, b = _responses(hidden[:, None], label, rng=rng, share=0.3)
    z = np.stack([hidden, label**2], axis=1)
    features = label_features(as_labels({"label": label}), train=train, seed=0)
    halves = Halves(a, b, z, z, train=train, test=~train)
    given = Given(features, train=train, seed=0)
    found = variance_beyond(halves, given, n_permutations=199, seed=0)
    assert found.added == pytest.approx(0.3, abs=0.04)
    assert found.features == pytest.approx(0.7, abs=0.05)
    assert found.p_value == 1 / 200
    only = variance_beyond(halves.of_latents(slice(1, None)), given, n_permutations=199, seed=0)
    assert only.added == pytest.approx(0, abs=0.01)


def test_nothing_beyond_is_not_called():
    p = []
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        label = rng.uniform(-np.sqrt(3), np.sqrt(3), 120)
        a, b = _responses(np.zeros((120, 1)), label, rng=rng, share=0.0)
        z = label[:, None] + rng.normal(size=(120, 2))
        train = np.arange(120) < 80
        features = np.stack([label, label**2], axis=1)
        halves = Halves(a, b, z, z, train=train, test=~train)
        given = Given(features, train=train, seed=seed)
        found = variance_beyond(halves, given, n_permutations=49, seed=seed)
        p.append(found.p_value)
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01


def test_the_interval_of_what_is_added_holds_the_planted_share():
    inside, widths = [], []
    for seed in range(40):
        rng = np.random.default_rng([12, seed])
        label, hidden = rng.uniform(-np.sqrt(3), np.sqrt(3), (2, 400))
        train = np.arange(400) < 280
        a, b = _responses(hidden[:, None], label, rng=rng, share=0.3)
        z = hidden[:, None]
        given = Given(np.stack([label, label**2], axis=1), train=train, seed=seed)
        found = variance_beyond(
            Halves(a, b, z, z, train=train, test=~train), given, n_permutations=9, n_bootstrap=300, seed=seed
        )
        low, high = found.interval
        assert low < found.added < high
        inside.append(low <= 0.3 <= high)
        widths.append(high - low)
    assert np.mean(inside) >= 0.85 and np.mean(widths) < 0.15


def test_labels_that_name_every_training_object_leave_a_share_over_and_not_hundreds():
    rng = np.random.default_rng(8)
    which = np.repeat(np.arange(24), 10)
    z = rng.normal(size=(24, 2))[which]
    a, b = (z @ np.ones((2, 12)) + 0.7 * rng.normal(size=(240, 12)) for _ in range(2))
    train = which < 18
    x = rng.uniform(-1.7, 1.7, 24)[which]
    features = label_features(as_labels({"x": x}), train=train, seed=0)
    halves = Halves(a, b, z, z, train=train, test=~train)
    given = Given(features, train=train, levels=Exchange(which), seed=0)
    found = variance_beyond(halves, given, n_permutations=99, seed=0)
    assert 0.5 < found.added < 2 and found.p_value == 0.01
    # Labels tell training objects apart, and yet as much is left of them as of others.
    left = given.left_over(a)
    assert left[train].std() == pytest.approx(left[~train].std(), rel=0.5)


def test_missing_labels_have_a_column_of_their_own():
    labels = {"x": np.array([1.0, 3.0, np.nan, 5.0]), "kind": np.array(["a", "b", "a", "b"], dtype=object)}
    features = label_features(as_labels(labels), train=np.ones(4, dtype=bool), seed=0)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[2, :2], [0.0, 1.0], atol=1e-12)
    assert label_features(as_labels({"flat": np.zeros(4)}), train=np.ones(4, dtype=bool), seed=0).shape == (
        4,
        0,
    )


def test_gabor_energy_is_largest_at_the_gratings_own_wavelength_and_orientation():
    y, x = np.mgrid[:48, :48]
    upright = np.cos(2 * np.pi * x / 6)[None]
    tilted = np.cos(2 * np.pi * (x + y) / 6 / np.sqrt(2))[None]
    wavelengths = (3.0, 6.0, 12.0)
    sizes = [6 * len(range(round(w) // 2, 48, round(w))) ** 2 for w in wavelengths]
    for image, angle in ((upright, 0), (tilted, 1)):
        energies = np.split(
            gabor_energies(image, wavelengths_px=wavelengths, n_orientations=4)[0],
            np.cumsum([s * 4 // 6 for s in sizes])[:-1],
        )
        strongest = np.array([part.reshape(4, -1).mean(axis=1) for part in energies])
        assert np.unravel_index(strongest.argmax(), strongest.shape) == (1, angle)


def test_image_features_do_not_see_the_test_images():
    images = np.random.default_rng(8).integers(0, 256, (60, 12, 12, 3), dtype=np.uint8)
    train = np.arange(60) < 40
    features = image_features(images, train=train)
    spoiled = images.copy()
    spoiled[50:] = 0
    np.testing.assert_array_equal(image_features(spoiled, train=train)[:50], features[:50])
    assert features.shape == (60, 64)


def test_bits_per_spike_of_the_true_rate():
    rng = np.random.default_rng(9)
    rate = np.exp(rng.normal(0, 0.8, (4000, 5)))
    total = rng.poisson(3 * rate)
    base = rate.mean(axis=0)
    expected = (rate * np.log(rate / base)).sum() / rate.sum() / np.log(2)
    assert bits_per_spike(total, np.full(4000, 3), rate, base_rate=base) == pytest.approx(expected, rel=0.03)
    flat = np.broadcast_to(base, rate.shape)
    assert bits_per_spike(total, np.full(4000, 3), flat, base_rate=base) == pytest.approx(0)
    assert np.isnan(bits_per_spike(0 * total, np.full(4000, 3), rate, base_rate=base))


def test_a_group_is_stable_beyond_strangers_only_if_its_fits_agree():
    rng = np.random.default_rng(7)
    held, noise = rng.normal(size=(300, 6)), rng.normal(size=(300, 6))
    groups = LatentGroups(("own", "free_1", "free_2"), (2, 2, 2), (("x",), (), ()))
    weight = Exchange.singles(300).bootstrap(200, rng)
    turned = np.hstack([held[:, :2], held[:, 4:], noise[:, :2]])  # free_2 is lost, free_1 has its place
    agreement = beyond_strangers(held, [turned, turned + 0.1 * noise], groups=groups, weight=weight)
    assert agreement["own"].difference > 0.8 and agreement["own"].p_value < 0.01
    assert agreement["free_2"].difference > 0.8 and agreement["free_2"].interval[0] > 0
    assert agreement["free_1"].difference < 0.1 and agreement["free_1"].p_value > 0.05
    # One fit that finds a group does not make up for another that loses it.
    lost = np.hstack([noise[:, 4:], held[:, 2:]])
    once = beyond_strangers(held, [held, lost], groups=groups, weight=weight)
    assert once["own"].difference < 0.1 and once["own"].p_value > 0.05 and once["free_2"].p_value < 0.01
    same = np.hstack([held[:, :2]] * 3)
    alike = beyond_strangers(same, [same], groups=groups, weight=weight)
    assert all(own.p_value == 1 and own.difference == pytest.approx(0) for own in alike.values())


@pytest.mark.parametrize("labels", [("x", "y", "z"), ()], ids=["supervised", "free"])
def test_groups_that_all_share_one_factor_are_not_stable_beyond_strangers(labels):
    own = tuple((label,) for label in labels) or ((), (), ())
    groups, called = LatentGroups(("a", "b", "c"), (2, 2, 2), own), []
    for seed in range(40):
        rng = np.random.default_rng([11, seed])
        factor = rng.normal(size=(64, 2))

        def fit(rng=rng, factor=factor):
            return np.hstack([factor + 0.8 * rng.normal(size=(64, 2)) for _ in range(3)])

        weight = Exchange.singles(64).bootstrap(99, rng)
        agreement = beyond_strangers(fit(), [fit(), fit()], groups=groups, weight=weight)
        called += [each.p_value < 0.05 for each in agreement.values()]
    assert np.mean(called) <= 0.05  # matching free groups picks the most similar: the test must allow for it
