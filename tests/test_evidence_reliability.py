import numpy as np
import pytest

from nwb_migvis.evidence.reliability import (
    half_means,
    spearman_brown,
    split_half_correlation,
    split_half_reliability,
)


def repeated(n_stimuli, n_repeats, rng):
    return rng.permutation(np.repeat(np.arange(n_stimuli), n_repeats))


def test_halves_share_out_every_presentation_once():
    rng = np.random.default_rng(0)
    n_repeats = rng.integers(0, 9, size=40)
    index = np.repeat(np.arange(40), n_repeats)
    # The k-th presentation of a stimulus counts 2**k: the sum of a half tells which ones it holds.
    bits = np.concatenate([2 ** np.arange(n) for n in n_repeats])
    order = rng.permutation(len(index))
    mean_a, mean_b, n_a, n_b = half_means(bits[order, None], index[order], 40, rng=rng)
    assert (n_a + n_b == n_repeats).all()
    assert (np.abs(n_a - n_b) == n_repeats % 2).all()
    few = n_repeats < 2
    assert np.isnan(mean_a[few]).all() and np.isnan(mean_b[few]).all()
    held_a = np.rint(mean_a[~few, 0] * n_a[~few]).astype(int)
    held_b = np.rint(mean_b[~few, 0] * n_b[~few]).astype(int)
    assert (held_a & held_b == 0).all()
    assert (held_a | held_b == 2 ** n_repeats[~few] - 1).all()
    assert [int(held).bit_count() for held in held_a] == n_a[~few].tolist()


def test_halves_are_random_and_follow_the_generator():
    index = np.repeat(np.arange(50), 7)
    counts = np.arange(len(index))[:, None]
    first = half_means(counts, index, 50, rng=np.random.default_rng(1))
    again = half_means(counts, index, 50, rng=np.random.default_rng(1))
    other = half_means(counts, index, 50, rng=np.random.default_rng(2))
    np.testing.assert_array_equal(first[0], again[0])
    assert (first[0] != other[0]).mean() > 0.5
    assert 0 < (first[2] == 4).sum() < 50  # a coin gives the odd presentation to either half


@pytest.mark.parametrize("n_repeats", [4, 10])
def test_reliability_of_gaussian_units_is_known(n_repeats):
    rng = np.random.default_rng(3)
    noise_variance = np.array([0.2, 1.0, 5.0])
    signal = rng.normal(size=(4000, 3))
    index = repeated(4000, n_repeats, rng)
    response = signal[index] + np.sqrt(noise_variance) * rng.normal(size=(len(index), 3))
    half = split_half_correlation(response, index, n_stimuli=4000, n_splits=3, seed=0)
    full = split_half_reliability(response, index, n_stimuli=4000, n_splits=3, seed=0)
    np.testing.assert_allclose(half, 1 / (1 + 2 * noise_variance / n_repeats), atol=0.03)
    np.testing.assert_allclose(full, 1 / (1 + noise_variance / n_repeats), atol=0.03)
    np.testing.assert_allclose(full, spearman_brown(half))


def test_units_without_variance_have_no_reliability():
    rng = np.random.default_rng(4)
    index = repeated(60, 4, rng)
    counts = np.stack([np.zeros(240), np.full(240, 3), rng.poisson(5, 240)], axis=1).astype(np.uint16)
    reliability = split_half_reliability(counts, index, n_stimuli=60, seed=0)
    assert np.isnan(reliability).tolist() == [True, True, False]


def test_single_trials_have_no_reliability():
    counts = np.random.default_rng(5).poisson(5, (30, 2))
    assert np.isnan(split_half_reliability(counts, np.arange(30), n_stimuli=30, seed=0)).all()


def test_reliability_among_chosen_stimuli():
    rng = np.random.default_rng(6)
    index = repeated(4000, 6, rng)
    tuned = np.arange(4000) < 2000
    rate = np.where(tuned, rng.gamma(2, 5, 4000), 10.0)
    counts = rng.poisson(rate[index])[:, None]
    inside = split_half_reliability(counts, index, n_stimuli=4000, seed=0, stimuli=tuned)
    outside = split_half_reliability(counts, index, n_stimuli=4000, seed=0, stimuli=~tuned)
    assert inside[0] > 0.9
    assert abs(outside[0]) < 0.2
