import numpy as np
import pytest
from scipy import stats

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.signal import Pair, explained_terms, fit_signal, powers
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups

TWO = LatentGroups(("first", "second"), (1, 1), ((), ()))


def halves(rng, *, n=240, noise=1.0, second=0.0):
    """Ten units that follow one number (and by `second` another), and two noisy latents of it."""
    factor, other = rng.normal(size=(2, n))
    signal = factor[:, None] * rng.normal(size=10) + second * other[:, None] * rng.normal(size=10)
    responses = [signal + noise * rng.normal(size=signal.shape) for _ in range(2)]
    latents = [
        np.stack([factor, second * other + (not second) * factor], axis=1) + noise * rng.normal(size=(n, 2))
        for _ in range(2)
    ]
    train = np.arange(n) < 170
    return Halves(*responses, *latents, train=train, test=~train)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_one_factor_reads_one_however_noisy_its_latents(noise):
    found = [
        group_variance(halves(np.random.default_rng([0, s]), noise=noise), TWO, n_permutations=1, seed=0)
        for s in range(25)
    ]
    explained = [list(each.explained.values()) for each in found]
    assert np.mean(explained) == pytest.approx(1, abs=0.05)
    assert np.mean([list(each.unique.values()) for each in found]) == pytest.approx(0, abs=0.02)


def test_a_redundant_read_out_adds_nothing():
    p = [
        list(
            group_variance(
                halves(np.random.default_rng([1, s])), TWO, n_permutations=99, n_bootstrap=1, seed=s
            ).unique_p.values()
        )
        for s in range(60)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.12
    # Where nothing repeatable is left to add, nothing is tested: p is 1.
    assert stats.kstest(np.array(p)[:, 0], "uniform", alternative="greater").pvalue > 0.01


def test_what_a_second_factor_adds_is_found():
    found = group_variance(halves(np.random.default_rng(2), second=1.0), TWO, n_permutations=199, seed=0)
    assert found.unique_p["second"] == 0.005
    low, high = found.unique_interval["second"]
    assert 0 < low < found.unique["second"] < high


def test_errors_in_variables_by_the_closed_form():
    rng = np.random.default_rng(3)
    factor = rng.normal(size=20_000)
    latents = Pair(*(factor[:, None] + 2.0 * rng.normal(size=(20_000, 1)) for _ in range(2)))
    responses = Pair(*(3.0 * factor[:, None] + rng.normal(size=(20_000, 1)) for _ in range(2)))
    fit = fit_signal(latents, responses)
    # Least squares would give 3 / (1 + 4).
    assert fit.weight.item() == pytest.approx(3, abs=0.15)
    explained, expected = explained_terms(fit.predict(latents), responses)
    assert explained.sum() / expected.sum() == pytest.approx(1, abs=0.02)


def test_a_unit_that_was_not_always_observed_counts_where_it_was():
    rng = np.random.default_rng(4)
    whole = halves(rng, noise=0.3)
    gaps = rng.random(whole.half_a.shape) < 0.2
    partial = Halves(
        np.where(gaps, np.nan, whole.half_a),
        np.where(gaps, np.nan, whole.half_b),
        whole.latents_a,
        whole.latents_b,
        train=whole.train,
        test=whole.test,
    )
    found = group_variance(partial, TWO, n_permutations=19, seed=0)
    assert found.explained["first"] == pytest.approx(1, abs=0.1)
    assert found.explained_p["first"] == 0.05


def test_powers_are_standardised_on_the_training_stimuli():
    train = np.arange(100) < 60
    z = np.random.default_rng(5).normal(3, 2, size=(100, 2))
    made = powers(Pair(z, z), train, degree=3)
    standard = (z - z[train].mean(axis=0)) / z[train].std(axis=0)
    np.testing.assert_allclose(made.a[:, :2], standard)
    np.testing.assert_allclose(made.b[:, 2:4], standard**2 - 1)
    np.testing.assert_allclose(made.b[:, 4:], standard**3 - 3 * standard)
