import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge as SklearnRidge

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.intervals import basic_interval, kinked_interval
from nwb_migvis.evidence.ridge import PENALTIES, fit_ridge
from nwb_migvis.evidence.significance import benjamini_hochberg, pairing_p, permutation_p, permutations
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups

GROUPS = LatentGroups(("x", "y", "idle"), (3, 3, 3), ((), (), ()))


def population(n, n_units, *, rng, share=(0.7, 0.3, 0.0), noise_sd=0.7, latents=None):
    """Linear units: signal of unit variance, `share` of it from each group of three latents."""
    z = rng.normal(size=(n, 9)) if latents is None else latents
    weight = rng.normal(size=(9, n_units))
    for g, part in enumerate(share):
        w = weight[3 * g : 3 * g + 3]
        w *= np.sqrt(part / (w**2).sum(axis=0))
    signal = z @ weight
    return z, *(signal + noise_sd * rng.normal(size=signal.shape) for _ in range(2))


def halves_of_split(n, n_test):
    train = np.arange(n) < n - n_test
    return {"train": train, "test": ~train}


def test_planted_shares_of_variance_are_found():
    z, a, b = population(3000, 40, rng=np.random.default_rng(0))
    found = group_variance(Halves(a, b, z, z, **halves_of_split(3000, 1000)), GROUPS, seed=0)
    for name, share in {"x": 0.7, "y": 0.3, "idle": 0.0}.items():
        assert found.explained[name] == pytest.approx(share, abs=0.04)
        assert found.unique[name] == pytest.approx(share, abs=0.04)
    assert found.total == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(found.r2, 1 / (1 + 0.49), atol=0.08)
    assert found.r2.mean() == pytest.approx(1 / (1 + 0.49), abs=0.02)
    assert found.explained_p["x"] == found.unique_p["y"] == 0.001
    assert found.explained_p["idle"] > 0.01 and found.unique_p["idle"] > 0.01
    assert found.n_units_left_out == 0


def test_what_two_groups_share_is_unique_to_neither():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2000, 9))
    z[:, 3:6] = z[:, :3]
    z, a, b = population(2000, 30, rng=rng, share=(1.0, 0.0, 0.0), latents=z)
    found = group_variance(Halves(a, b, z, z, **halves_of_split(2000, 800)), GROUPS, seed=0)
    assert found.explained["x"] == pytest.approx(1.0, abs=0.03)
    assert found.explained["y"] == pytest.approx(1.0, abs=0.03)
    assert abs(found.unique["x"]) < 0.01 and abs(found.unique["y"]) < 0.01


def test_a_noisy_copy_of_a_group_explains_much_but_adds_nothing():
    unique_p = []
    for seed in range(60):
        rng = np.random.default_rng([11, seed])
        z = rng.normal(size=(150, 9))
        z[:, 3:6] = z[:, :3] + 0.5 * rng.normal(size=(150, 3))
        z, a, b = population(150, 8, rng=rng, share=(1.0, 0.0, 0.0), latents=z)
        found = group_variance(
            Halves(a, b, z, z, **halves_of_split(150, 60)), GROUPS, n_permutations=99, seed=seed
        )
        assert found.explained_p["y"] == 0.01
        unique_p.append(found.unique_p["y"])
    assert stats.kstest(unique_p, "uniform").pvalue > 0.01


def test_the_order_of_units_does_not_matter():
    rng = np.random.default_rng(12)
    z, a, b = population(300, 10, rng=rng)
    order = rng.permutation(10)
    split = halves_of_split(300, 100)
    plain = group_variance(Halves(a, b, z, z, **split), GROUPS, seed=0)
    turned = group_variance(Halves(a[:, order], b[:, order], z, z, **split), GROUPS, seed=0)
    assert turned.explained == pytest.approx(plain.explained)
    assert turned.unique_p == plain.unique_p
    np.testing.assert_allclose(turned.r2, plain.r2[order])


def test_copied_noise_explains_nothing():
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(1500, 6))
    noise = rng.normal(size=(2, 1500, 6))
    # Latents that copy their own half's noise would predict half of its variance, were it asked for.
    found = group_variance(
        Halves(*(signal + noise), noise[0], noise[1], **halves_of_split(1500, 500)),
        LatentGroups(("noise",), (6,), ((),)),
        seed=0,
    )
    assert abs(found.explained["noise"]) < 0.03
    assert found.explained_p["noise"] > 0.01


def test_only_training_stimuli_choose_the_units():
    rng = np.random.default_rng(3)
    split = halves_of_split(900, 300)
    z, a, b = population(900, 12, rng=rng, share=(1.0, 0.0, 0.0))
    for half in (a, b):
        half[:, 10] = rng.normal(size=900)
    lucky = rng.normal(size=300)
    a[split["test"], 10] = b[split["test"], 10] = lucky
    a[:, 11] = b[:, 11] = 0.0
    found = group_variance(Halves(a, b, z, z, **split), GROUPS, seed=0)
    assert found.n_units_left_out == 2
    assert found.explained["x"] == pytest.approx(1.0, abs=0.05)
    assert np.isnan(found.r2[11])


def test_ridge_is_fitted_on_training_stimuli():
    rng = np.random.default_rng(4)
    split = halves_of_split(600, 200)
    z, a, b = population(600, 10, rng=rng)
    before = group_variance(Halves(a, b, z, z, **split), GROUPS, seed=0)
    a[split["train"]] = -a[split["train"]]
    b[split["train"]] = -b[split["train"]]
    after = group_variance(Halves(a, b, z, z, **split), GROUPS, seed=0)
    assert before.explained["x"] > 0.5
    assert after.explained["x"] < -1


def test_without_repeats_nothing_is_measured():
    z, a, b = population(200, 5, rng=np.random.default_rng(5))
    a[20:], b[20:] = np.nan, np.nan
    found = group_variance(Halves(a, b, z, z, **halves_of_split(200, 50)), GROUPS, seed=0)
    assert np.isnan([*found.explained.values(), *found.unique_p.values(), found.total, *found.r2]).all()


def test_without_reliable_units_nothing_is_claimed():
    rng = np.random.default_rng(6)
    (a, b), z = rng.normal(size=(2, 500, 4)), rng.normal(size=(500, 9))
    found = group_variance(
        Halves(a, b, z, z, **halves_of_split(500, 200)), GROUPS, min_reliability=0.5, seed=0
    )
    assert found.n_units_left_out == 4
    assert np.isnan(found.explained["x"])
    assert found.explained_p["x"] == found.unique_p["x"] == 1.0


def test_p_values_of_idle_groups_are_uniform():
    explained_p, unique_p, values = [], [], []
    for seed in range(100):
        rng = np.random.default_rng([7, seed])
        z, a, b = population(150, 8, rng=rng, share=(0.5, 0.5, 0.0))
        found = group_variance(
            Halves(a, b, z, z, **halves_of_split(150, 60)), GROUPS, n_permutations=99, seed=seed
        )
        explained_p.append(found.explained_p["idle"])
        unique_p.append(found.unique_p["idle"])
        values.append(found.unique["idle"])
    assert stats.kstest(explained_p, "uniform").pvalue > 0.01
    assert stats.kstest(unique_p, "uniform").pvalue > 0.01
    assert abs(np.mean(values)) < 0.05


def test_p_values_are_uniform_when_presentations_are_shuffled():
    # Nothing repeats, and the latents are encoded from responses with correlated noise.
    p = []
    mixing = np.linalg.cholesky(0.5 * np.eye(8) + 0.5)
    for seed in range(100):
        rng = np.random.default_rng([8, seed])
        a, b = (rng.normal(size=(150, 8)) @ mixing.T for _ in range(2))
        encoder = rng.normal(size=(8, 9))
        found = group_variance(
            Halves(a, b, a @ encoder, b @ encoder, **halves_of_split(150, 60)),
            GROUPS,
            min_reliability=-1.0,
            n_permutations=99,
            seed=seed,
        )
        p.append([found.explained_p["x"], found.unique_p["x"]])
    assert stats.kstest(np.array(p)[:, 0], "uniform").pvalue > 0.01
    assert stats.kstest(np.array(p)[:, 1], "uniform").pvalue > 0.01


def test_ridge_agrees_with_scikit_learn():
    rng = np.random.default_rng(9)
    x, y = rng.normal(3, 2, size=(80, 5)), rng.normal(size=(80, 4))
    fit = fit_ridge(x, y, penalty=0.2)
    standardised = (x - x.mean(axis=0)) / x.std(axis=0)
    reference = SklearnRidge(alpha=0.2 * 80).fit(standardised, y)
    np.testing.assert_allclose(fit.predict(x), reference.predict(standardised), atol=1e-10)


def test_ridge_penalty_follows_the_noise_and_ignores_constants():
    rng = np.random.default_rng(10)
    x = rng.normal(size=(60, 30))
    signal = x[:, :3] @ rng.normal(size=(3, 5))
    clean = fit_ridge(x, signal)
    noisy = fit_ridge(x, signal + 10 * rng.normal(size=signal.shape))
    assert clean.penalty == PENALTIES[0]
    assert noisy.penalty > 0.3
    with_constant = fit_ridge(np.column_stack([x, np.full(60, 7.0)]), signal)
    np.testing.assert_allclose(
        with_constant.predict(np.column_stack([x, np.full(60, 9.0)])), clean.predict(x)
    )


def test_permutation_p_by_hand():
    assert permutation_p(2.0, np.array([1.0, 2.0, 3.0])) == 0.75
    assert permutation_p(9.0, np.array([1.0, 2.0, 3.0])) == 0.25
    assert np.isnan(permutation_p(np.nan, np.array([1.0, 2.0, 3.0])))


@pytest.mark.parametrize("most", [1, 70, 2**24])
def test_pairings_are_tested_whatever_is_held_at_a_time(monkeypatch, most):
    monkeypatch.setattr("nwb_migvis.evidence.significance.MOST_PRODUCTS", most)
    rng = np.random.default_rng(0)
    right = rng.normal(size=(30, 5))
    left = 0.15 * right + rng.normal(size=(30, 5))
    drawn = permutations(30, 99, rng=rng)
    null = np.array([(left * right[order]).sum() for order in drawn])
    expected = permutation_p((left * right).sum(), null)
    assert 0.01 < expected < 1
    assert pairing_p(left, right, drawn) == expected
    assert pairing_p(left, 0 * right, drawn) == 1
    assert pairing_p(left, right + 5 * left, drawn) == 0.01


def test_benjamini_hochberg_by_hand():
    p = np.array([0.04, 0.01, np.nan, 0.03, 0.5])
    np.testing.assert_allclose(benjamini_hochberg(p), [4 / 75, 0.04, np.nan, 4 / 75, 0.5])
    np.testing.assert_allclose(
        benjamini_hochberg(p[[0, 1, 3, 4]]), stats.false_discovery_control(p[[0, 1, 3, 4]])
    )
    assert benjamini_hochberg(np.array([])).shape == (0,)


def test_a_basic_interval_turns_the_tails_of_resamples_around_the_estimate():
    resampled = np.linspace(0.0, 1.0, 1001)  # percentiles .025 and .975
    assert basic_interval(0.8, resampled) == pytest.approx((1.6 - 0.975, 1.6 - 0.025))
    low, high = kinked_interval(0.8, resampled)
    assert (low, high) == pytest.approx((0.025, 1.575))  # spans both kinds
